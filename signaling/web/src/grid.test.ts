import { expect, test } from 'vitest';

import { along, capacity, fit } from './grid';

const WIDE = { width: 1280, height: 720 };
const TALL = { width: 360, height: 640 };

test('columns follow the shape of the space', () => {
  const check = (count: number, space: typeof WIDE, columns: number) =>
    expect(fit(count, space, 8).columns, `${count}`).toBe(columns);
  check(1, WIDE, 1);
  check(2, WIDE, 2);
  check(3, WIDE, 2);
  check(4, WIDE, 2);
  check(9, WIDE, 3);
  check(1, TALL, 1);
  check(2, TALL, 1);
  check(6, TALL, 2);
});

test('tiles fit, whatever the space', () => {
  for (const space of [WIDE, TALL, { width: 1920, height: 300 }, { width: 200, height: 900 }]) {
    for (let count = 1; count <= 30; count += 1) {
      const { columns, tile } = fit(count, space, 8);
      const rows = Math.ceil(count / columns);
      expect(columns * tile.width + 8 * (columns - 1)).toBeLessThanOrEqual(space.width);
      expect(rows * tile.height + 8 * (rows - 1)).toBeLessThanOrEqual(space.height);
      expect(tile.width).toBeGreaterThan(0);
      expect(tile.width / tile.height).toBeLessThan(1.95);
    }
  }
});

test('no space and nobody are no division by zero', () => {
  expect(fit(0, WIDE, 8).columns).toBe(1);
  expect(fit(3, { width: 0, height: 0 }, 8).tile).toEqual({ width: 0, height: 0 });
});

test('a page takes as many as are still large enough', () => {
  expect(capacity(49, { width: 1884, height: 930 }, 10)).toBe(49);
  expect(capacity(25, WIDE, 10)).toBe(25);
  expect(capacity(49, { width: 344, height: 590 }, 8)).toBeLessThan(13);
  expect(capacity(49, { width: 100, height: 60 }, 8)).toBe(1);
  for (const space of [WIDE, TALL, { width: 1920, height: 1080 }]) {
    const { tile } = fit(capacity(49, space, 10), space, 10);
    expect(tile.width).toBeGreaterThanOrEqual(140);
    expect(tile.height).toBeGreaterThanOrEqual(80);
  }
});

test('as many fit along as there is length for', () => {
  expect([100, 209, 210, 0].map((length) => along(length, 100, 10))).toEqual([1, 1, 2, 1]);
});
