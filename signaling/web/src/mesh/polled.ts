// What is asked again and again, as a hook: the last answer, and why there is no newer one.

import { useCallback, useEffect, useRef, useState } from 'react';

import { Poll } from '../poll';
import { ApiError } from './api';

export interface Polled<T> {
  answer: T | undefined;
  /** When it came. */
  at: number;
  /** Since then. */
  error: ApiError | undefined;
  retryAt: number;
  again: () => void;
}

interface State<T> {
  answer: T | undefined;
  at: number;
  error: ApiError | undefined;
  retryAt: number;
}

/** `ask` stays the same for as long as the component lives: another question is another component. */
export function usePolled<T>(ask: (stop: AbortSignal) => Promise<T>, every: number): Polled<T> {
  const [state, setState] = useState<State<T>>({ answer: undefined, at: 0, error: undefined, retryAt: 0 });
  const poll = useRef<Poll<T>>(null);
  useEffect(() => {
    const current = new Poll({
      ask,
      every,
      onAnswer: (answer) => setState({ answer, at: Date.now(), error: undefined, retryAt: 0 }),
      onFailure: (error, retryMs) => setState((before) => ({ ...before, error: asApiError(error), retryAt: Date.now() + retryMs })),
    });
    poll.current = current;
    current.start();
    return () => current.stop();
  }, [ask, every]);
  const again = useCallback(() => poll.current?.now(), []);
  return { ...state, again };
}

/** The time, once a second. */
export function useNow(): number {
  const [now, setNow] = useState(() => Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 1000);
    return () => clearInterval(timer);
  }, []);
  return now;
}

/** Since when somebody can see the page. */
export function useShownSince(): number {
  const [since, setSince] = useState(() => Date.now());
  useEffect(() => {
    const look = () => {
      if (!document.hidden) setSince(Date.now());
    };
    document.addEventListener('visibilitychange', look);
    return () => document.removeEventListener('visibilitychange', look);
  }, []);
  return since;
}

function asApiError(error: unknown): ApiError {
  return error instanceof ApiError ? error : new ApiError('unreachable', String(error));
}
