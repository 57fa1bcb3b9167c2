// A video element that shows a local track.

import type { LocalVideoTrack } from 'livekit-client';
import { useEffect, useRef } from 'react';

export function Picture({ track, mirrored }: { track: LocalVideoTrack; mirrored: boolean }) {
  const element = useRef<HTMLVideoElement>(null);
  useEffect(() => {
    const video = element.current;
    if (!video) return;
    track.attach(video);
    return () => void track.detach(video);
  }, [track]);
  return <video ref={element} className={mirrored ? 'mirrored' : undefined} muted playsInline aria-label="Preview of your camera" />;
}
