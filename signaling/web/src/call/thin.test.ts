import { expect, test } from 'vitest';

import { type Line, type Thin, begin, decide, observe } from './thin';

/** A look each second at a line that is so for so many seconds. */
function pass(thin: Thin, line: Line, from: number, seconds: number): Thin {
  let now = thin;
  for (let second = 1; second <= seconds; second += 1) now = observe(now, line, from + second * 1000);
  return now;
}

test('pictures go when a line is poor for long, not for a moment', () => {
  const moment = pass(pass(begin(0), 'poor', 0, 5), 'good', 5000, 1);
  expect(moment.audioOnly).toBe(false);
  expect(pass(moment, 'poor', 6000, 7).audioOnly).toBe(false);
  expect(pass(moment, 'poor', 6000, 10).audioOnly).toBe('line');
});

test('they are tried again on a good line, each time later', () => {
  const gone = pass(begin(0), 'poor', 0, 10);
  expect(pass(gone, 'poor', 10_000, 300).audioOnly).toBe('line');
  expect(pass(gone, 'good', 10_000, 20).audioOnly).toBe('line');
  const tried = pass(gone, 'good', 10_000, 31);
  expect(tried.audioOnly).toBe(false);
  const broken = pass(pass(gone, 'good', 10_000, 29), 'poor', 39_000, 1);
  expect(pass(broken, 'good', 40_000, 29).audioOnly).toBe('line');
  expect(pass(broken, 'good', 40_000, 31).audioOnly).toBe(false);
  const again = pass(tried, 'poor', 41_000, 10);
  expect(again.audioOnly).toBe('line');
  expect(pass(again, 'good', 51_000, 45).audioOnly).toBe('line');
  expect(pass(again, 'good', 51_000, 61).audioOnly).toBe(false);
});

test('a line that stays good is trusted as at first', () => {
  const tried = pass(pass(begin(0), 'poor', 0, 10), 'good', 10_000, 31);
  expect(pass(tried, 'good', 41_000, 130).waitMs).toBe(begin(0).waitMs);
});

test('what the person decides stays so', () => {
  const wanted = decide(begin(0), true, 0);
  expect(pass(wanted, 'good', 0, 600).audioOnly).toBe('person');
  const shown = decide(pass(begin(0), 'poor', 0, 10), false, 10_000);
  expect(pass(shown, 'poor', 10_000, 5).audioOnly).toBe(false);
});
