// The call that a page is about, for whatever is on it.

import { createContext, useContext, useSyncExternalStore } from 'react';

import type { Call, Live } from './live';

export const LiveContext = createContext<Live | undefined>(undefined);

export function useLive(): Live {
  const live = useContext(LiveContext);
  if (!live) throw new Error('outside of a call');
  return live;
}

export function useCall(): Call {
  const { subscribe, snapshot } = useLive();
  return useSyncExternalStore(subscribe, snapshot);
}
