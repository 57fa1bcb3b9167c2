import { expect, test } from 'vitest';

import { ApiError } from './api';
import { load, loss, many, millis, placed, rate, seconds, shortened, trouble } from './words';

/** With spaces that break. */
const plain = (text: string) => text.replaceAll('\u00a0', ' ');

test.each([
  [null, '–'],
  [0, '0 kbit/s'],
  [499, '0 kbit/s'],
  [640_000, '640 kbit/s'],
  [999_499, '999 kbit/s'],
  [999_500, '1.0 Mbit/s'],
  [4_240_000, '4.2 Mbit/s'],
  [99_400_000, '99.4 Mbit/s'],
  [640_000_000, '640 Mbit/s'],
  [1_340_000_000, '1.3 Gbit/s'],
])('rate %s', (bits, expected) => expect(plain(rate(bits))).toBe(expected));

test.each([
  [null, '–'],
  [0, '0 %'],
  [0.0004, '< 0.1 %'],
  [0.001, '0.1 %'],
  [0.034, '3.4 %'],
  [0.25, '25 %'],
])('loss %s', (part, expected) => expect(plain(loss(part))).toBe(expected));

test('other numbers', () => {
  expect([millis(null), millis(0.42), millis(9.94), millis(9.96), millis(80.5)].map(plain)).toEqual(['–', '0.4 ms', '9.9 ms', '10 ms', '81 ms']);
  expect([load(null), load(0.234), load(1)].map(plain)).toEqual(['–', '23 %', '100 %']);
  expect([many(1, 'node', 'nodes'), many(1240, 'node', 'nodes'), many(null, 'node', 'nodes')].map(plain)).toEqual(['1 node', '1,240 nodes', '– nodes']);
  expect([seconds(-5), seconds(1400), seconds(119_000), seconds(180_000)].map(plain)).toEqual(['0 s', '1 s', '119 s', '3 min']);
});

test('ids keep their ends', () => {
  const check = (length: number, expected: string) => {
    expect(shortened('eu-west-node-17', length)).toBe(expected);
    expect(expected.length).toBeLessThanOrEqual(length);
  };
  check(15, 'eu-west-node-17');
  check(9, 'eu-w…e-17');
  check(2, 'e…');
  check(1, '…');
});

test('why somebody is where they are', () => {
  expect(placed({ by: 'measured', reason: 'ring' })).toBe(
    'The ring names this node first for the room; the region is the nearest by round trips that they measured.',
  );
  expect(placed({ by: 'new', reason: 'newer' })).toBe('Newer; new.');
  expect(placed(null)).toBe('The join does not say.');
});

test('what helps is said', () => {
  expect(trouble(new ApiError('unreachable', 'nobody answers'))).toContain('nobody answers');
  expect(trouble(new ApiError('refused', 'no pages'))).toContain('admin.token');
});
