// Icons, drawn on a 24 px grid with one stroke width. Decoration only: labels are beside them.

import type { ReactNode } from 'react';

function icon(content: ReactNode) {
  return function Icon() {
    return (
      <svg className="icon" viewBox="0 0 24 24" aria-hidden="true" focusable="false">
        {content}
      </svg>
    );
  };
}

const microphone = (
  <>
    <rect x="9" y="3" width="6" height="11" rx="3" />
    <path d="M5.5 11.5a6.5 6.5 0 0 0 13 0M12 18v3" />
  </>
);
const camera = (
  <>
    <rect x="3" y="6.5" width="12" height="11" rx="2.5" />
    <path d="M15 10.5l6-3.5v10l-6-3.5" />
  </>
);
const slash = <path className="slash" d="M4 4l16 16" />;

export const Microphone = icon(microphone);
export const MicrophoneOff = icon(<>{microphone}{slash}</>);
export const Camera = icon(camera);
export const CameraOff = icon(<>{camera}{slash}</>);
export const Screen = icon(
  <>
    <rect x="3" y="4.5" width="18" height="12" rx="2" />
    <path d="M8.5 20h7M12 13.5v-6M9.2 10L12 7.2l2.8 2.8" />
  </>,
);
export const Chat = icon(<path d="M4 6.5A2.5 2.5 0 0 1 6.5 4h11A2.5 2.5 0 0 1 20 6.5v7a2.5 2.5 0 0 1-2.5 2.5H11l-4.5 4v-4A2.5 2.5 0 0 1 4 13.5z" />);
export const Settings = icon(
  <>
    <path d="M4 7.5h9M19 7.5h1M4 16.5h1M11 16.5h9" />
    <circle cx="16" cy="7.5" r="2.5" />
    <circle cx="8" cy="16.5" r="2.5" />
  </>,
);
export const Leave = icon(<path d="M3 14.5c0-6 18-6 18 0v1.200a1 1 0 0 1-1.200 1l-3.600-.8a1 1 0 0 1-.8-1v-1.700c-2.200-.7-4.600-.7-6.800 0v1.700a1 1 0 0 1-.8 1l-3.600.8a1 1 0 0 1-1.200-1z" />);
export const Send = icon(<path d="M4 12l16-7.5-5 15.5-3.200-6.300zM11.800 13.700L20 4.5" />);
export const Close = icon(<path d="M6 6l12 12M18 6L6 18" />);
export const Link = icon(<path d="M10 14l4-4M8.5 11L6 13.5a3.200 3.200 0 0 0 4.5 4.5L13 15.5M11 8.5L13.5 6A3.200 3.200 0 0 1 18 10.5L15.5 13" />);
export const Check = icon(<path d="M5 12.5l4.5 4.5L19 7.5" />);

export const Copy = icon(
  <>
    <rect x="8.5" y="8.5" width="11" height="11" rx="2.5" />
    <path d="M15.500 5.500A2 2 0 0 0 13.500 4.500h-7A2 2 0 0 0 4.500 6.500v7a2 2 0 0 0 1 2" />
  </>,
);
export const Hand = icon(<path d="M8 12.5V6.300a1.300 1.300 0 0 1 2.600 0V11 4.800a1.300 1.300 0 0 1 2.600 0V11 5.800a1.300 1.300 0 0 1 2.600 0V12 8.300a1.300 1.300 0 0 1 2.600 0v6.200a6 6 0 0 1-6 6h-.6a6 6 0 0 1-4.900-2.500l-2.800-4.100c-.9-1.400.8-2.900 2-1.700z" />);
export const People = icon(
  <>
    <circle cx="9" cy="8.500" r="3.500" />
    <path d="M2.500 19.500c.5-3.700 3.200-5.500 6.500-5.500s6 1.800 6.500 5.500M15.500 5.300a3.500 3.500 0 0 1 0 6.400M18 14.600c2 .8 3.200 2.400 3.500 4.900" />
  </>,
);
export const Grid = icon(<path d="M4.500 4.500h6v6h-6zM13.500 4.500h6v6h-6zM4.500 13.500h6v6h-6zM13.500 13.500h6v6h-6z" />);
export const Spotlight = icon(
  <>
    <rect x="3.500" y="4.500" width="17" height="10" rx="2" />
    <path d="M4.500 19h3M10.500 19h3M16.500 19h3" />
  </>,
);
export const Info = icon(
  <>
    <circle cx="12" cy="12" r="8.500" />
    <path d="M12 11v5.500M12 7.600v.1" />
  </>,
);
export const Focus = icon(<path d="M9 4.500H4.500V9M15 4.500h4.500V9M9 19.500H4.500V15M15 19.500h4.500V15" />);
export const Shrink = icon(<path d="M4.500 9H9V4.500M19.500 9H15V4.500M4.500 15H9v4.500M19.500 15H15v4.500" />);
export const ChevronLeft = icon(<path d="M14.500 5.500L8 12l6.500 6.500" />);
export const ChevronRight = icon(<path d="M9.500 5.500L16 12l-6.500 6.500" />);
export const Again = icon(<path d="M19 12a7 7 0 1 1-2.200-5.100M19 4v4.500h-4.500" />);

export function Mark() {
  return (
    <svg className="mark" viewBox="0 0 32 32" aria-hidden="true" focusable="false">
      <rect width="32" height="32" rx="9" />
      <path d="M10 11.5h12M10 11.5l6 10.5M22 11.5L16 22" />
      <circle cx="10" cy="11.5" r="3.1" />
      <circle cx="22" cy="11.5" r="3.1" />
      <circle cx="16" cy="22" r="3.1" />
    </svg>
  );
}
