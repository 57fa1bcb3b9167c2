import { expect, test } from 'vitest';

import type { Arrivals } from '../page/arrivals';
import { longestGap, missing, quantile } from './arrivals';

const audio = (numbers: number[]): Arrivals => ({ kind: 'audio', connection: 0, participant: 'PA_a', times: numbers, numbers });

test('the longest gap is the one that touches the window', () => {
  const times = [0, 500, 520, 540, 900, 920];
  expect(longestGap(times, { from: 510, to: 930 })).toBe(360);
  expect(longestGap(times, { from: 510, to: 560 })).toBe(20);
  expect(longestGap(times, { from: 100, to: 530 })).toBe(500);
  // What has ended is silent until the window's end.
  expect(longestGap(times, { from: 910, to: 2000 })).toBe(1080);
  expect(longestGap([], { from: 0, to: 10 })).toBe(0);
});

test('missing is what never came', () => {
  expect(missing(audio([7, 8, 9]))).toBe(0);
  expect(missing(audio([7, 9, 8, 10]))).toBe(0);
  expect(missing(audio([7, 8, 8, 11]))).toBe(2);
  expect(missing(audio([65534, 65535, 0, 2]))).toBe(1);
  expect(missing(audio([65535, 1, 0]))).toBe(0);
  expect(missing(audio([]))).toBe(0);
});

test('a quantile is one of the values', () => {
  expect(quantile([3, 1, 2, 4], 0.95)).toBe(4);
  expect(quantile(Array.from({ length: 20 }, (_, index) => index), 0.95)).toBe(18);
});
