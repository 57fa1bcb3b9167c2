import { afterEach, beforeEach, expect, test, vi } from 'vitest';

import { Poll } from './poll';

beforeEach(() => vi.useFakeTimers());
afterEach(() => vi.useRealTimers());

/** A page that can be hidden. */
function makePage() {
  let listener: () => void = () => undefined;
  const page = {
    hidden: false,
    addEventListener: (_: string, it: () => void) => void (listener = it),
    removeEventListener: () => void (listener = () => undefined),
  };
  const show = (hidden: boolean) => {
    page.hidden = hidden;
    listener();
  };
  return { page: page as unknown as Document, show };
}

/** A poll of something that is answered by hand. */
function makePoll(every = 1000) {
  const { page, show } = makePage();
  const open: { answer: (value: number) => void; fail: (error: Error) => void; stop: AbortSignal }[] = [];
  const answers: number[] = [];
  const pauses: number[] = [];
  const ask = (stop: AbortSignal) =>
    new Promise<number>((answer, fail) => {
      open.push({ answer, fail, stop });
    });
  const poll = new Poll({ ask, every, onAnswer: (it) => void answers.push(it), onFailure: (_, pause) => void pauses.push(pause) }, page);
  const settle = () => vi.advanceTimersByTimeAsync(0);
  return { poll, open, answers, pauses, show, settle };
}

test('no question is asked before the last one is answered', async () => {
  const { poll, open, answers, settle } = makePoll();
  poll.start();
  poll.now();
  await vi.advanceTimersByTimeAsync(60_000);
  expect(open).toHaveLength(1);
  open[0]?.answer(1);
  await settle();
  expect(answers).toEqual([1]);
  poll.stop();
});

test('what took long is asked more rarely', async () => {
  const { poll, open } = makePoll();
  poll.start();
  await vi.advanceTimersByTimeAsync(200);
  open[0]?.answer(1);
  await vi.advanceTimersByTimeAsync(999);
  expect(open).toHaveLength(1);
  await vi.advanceTimersByTimeAsync(1);
  expect(open).toHaveLength(2);
  await vi.advanceTimersByTimeAsync(2000);
  open[1]?.answer(2);
  await vi.advanceTimersByTimeAsync(3999);
  expect(open).toHaveLength(2);
  await vi.advanceTimersByTimeAsync(1);
  expect(open).toHaveLength(3);
  poll.stop();
});

test('each failure makes the pause longer, up to a bound, and an answer makes it short again', async () => {
  const { poll, open, pauses } = makePoll();
  poll.start();
  for (let count = 0; count < 6; count += 1) {
    open[count]?.fail(new Error('no'));
    await vi.advanceTimersByTimeAsync(15_000);
    expect(open).toHaveLength(count + 2);
  }
  expect(pauses).toEqual([2000, 4000, 8000, 15_000, 15_000, 15_000]);
  open[6]?.answer(7);
  await vi.advanceTimersByTimeAsync(1000);
  expect(open).toHaveLength(8);
  poll.stop();
});

test('nothing is asked while the page is hidden, and at once when it is shown', async () => {
  const { poll, open, show, settle } = makePoll();
  poll.start();
  open[0]?.answer(1);
  await settle();
  show(true);
  await vi.advanceTimersByTimeAsync(60_000);
  expect(open).toHaveLength(1);
  show(false);
  expect(open).toHaveLength(2);
  // It was hidden while it was asked.
  show(true);
  open[1]?.answer(2);
  await vi.advanceTimersByTimeAsync(60_000);
  expect(open).toHaveLength(2);
  poll.stop();
});

test('who has stopped is told nothing more', async () => {
  const { poll, open, answers, pauses, settle } = makePoll();
  poll.start();
  poll.stop();
  expect(open[0]?.stop.aborted).toBe(true);
  open[0]?.answer(1);
  await settle();
  poll.now();
  await vi.advanceTimersByTimeAsync(60_000);
  expect([open.length, answers, pauses]).toEqual([1, [], []]);
});
