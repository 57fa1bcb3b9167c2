// Watches one's own line, and leaves pictures out while it is too thin for them.

import { useCallback, useEffect, useReducer } from 'react';

import { useLive } from './context';
import { type Call, isPoor } from './live';
import { type Line, type Thin, begin, decide, observe } from './thin';

const LOOK_EVERY_MS = 1000;

export interface ThinLine {
  audioOnly: Thin['audioOnly'];
  falls: number;
  decide: (audioOnly: boolean) => void;
}

export function useThinLine(): ThinLine {
  const live = useLive();
  const [thin, tell] = useReducer(
    (now: Thin, what: { line: Line; at: number } | { audioOnly: boolean; at: number }) =>
      'line' in what ? observe(now, what.line, what.at) : decide(now, what.audioOnly, what.at),
    undefined,
    () => begin(Date.now()),
  );
  useEffect(() => {
    const look = () => tell({ line: lineOf(live.snapshot()), at: Date.now() });
    const timer = setInterval(look, LOOK_EVERY_MS);
    return () => clearInterval(timer);
  }, [live]);
  const choose = useCallback((audioOnly: boolean) => tell({ audioOnly, at: Date.now() }), []);
  return { audioOnly: thin.audioOnly, falls: thin.falls, decide: choose };
}

/** Poor is what is said to be, or a line on which every picture of others has been paused. */
function lineOf({ self, people, link }: Call): Line {
  if (link !== 'connected') return 'good';
  const pictures = people.filter(({ isLocal }) => !isLocal).flatMap(({ camera, screen }) => [camera, screen]);
  const received = pictures.filter((picture) => picture?.track);
  const allPaused = received.length > 0 && received.every((picture) => picture?.paused);
  return isPoor(self.quality) || allPaused ? 'poor' : 'good';
}
