// Waiting for conditions under deadlines. The only place that knows a polling interval.

import { setTimeout as delay } from 'node:timers/promises';

const POLL_EVERY = 50;

/** `promise`, or an error that says what was waited for. */
export async function within<T>(milliseconds: number, what: string, promise: Promise<T>): Promise<T> {
  const stop = new AbortController();
  const late = delay(milliseconds, undefined, { signal: stop.signal, ref: false }).then(() => {
    throw new Error(`waited ${milliseconds} ms in vain for ${what}`);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    stop.abort();
    late.catch(() => undefined);
  }
}

/** Asks until the answer is something, and gives it. On failure the last answer is in the error. */
export async function until<T>(
  milliseconds: number,
  what: string,
  ask: () => Promise<T | undefined | null | false>,
  describe: () => unknown = () => undefined,
): Promise<T> {
  const deadline = Date.now() + milliseconds;
  for (;;) {
    const answer = await ask();
    if (answer !== undefined && answer !== null && answer !== false) return answer;
    if (Date.now() > deadline) {
      const last = describe();
      const detail = last === undefined ? '' : `; last seen: ${JSON.stringify(last)}`;
      throw new Error(`waited ${milliseconds} ms in vain for ${what}${detail}`);
    }
    await delay(POLL_EVERY);
  }
}
