// How loud the microphone is, as a bar that moves.

import { type LocalAudioTrack, createAudioAnalyser } from 'livekit-client';
import { useEffect, useRef } from 'react';

export function Level({ track }: { track: LocalAudioTrack }) {
  const bar = useRef<HTMLElement>(null);
  useEffect(() => {
    const { calculateVolume, cleanup } = createAudioAnalyser(track, { smoothingTimeConstant: 0.6 });
    let frame = 0;
    const draw = () => {
      bar.current?.style.setProperty('--level', Math.min(1, calculateVolume() * 2).toFixed(2));
      frame = requestAnimationFrame(draw);
    };
    draw();
    return () => {
      cancelAnimationFrame(frame);
      void cleanup();
    };
  }, [track]);
  return <i ref={bar} className="level" aria-hidden="true" />;
}
