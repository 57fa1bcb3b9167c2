import { expect, test } from 'vitest';

import { type Hop, type TrackPath, askPaths, oneWay, reach, route } from './paths';
import { asText, pathRows, placeRows, receivedRows } from './rows';

const far: Hop[] = [
  { node: 'node-a', region: 'eu', role: 'origin' },
  { node: 'node-c', region: 'us', role: 'gateway', pipe: 'up', rtt_ms: 80, one_way_ms: 41, loss: 0.001 },
  { node: 'node-d', region: 'us', role: 'leaf', pipe: 'up', rtt_ms: 0.4, one_way_ms: null, loss: 0 },
];
const path: TrackPath = {
  ...{ track: 'TR_1', publisher: 'ann', codec: 'video/VP8', paused: false, unheard: false, path: far, unknown: null },
  layer: { spatial: 1, temporal: null, rid: 'h', width: 640, height: 360, bits_per_second: 498_000 },
};
const [eu, us] = [{ node: 'node-a', region: 'eu', placement: '' }, { node: 'node-d', region: 'us', placement: 'measured/overflow' }];
const value = (rows: { name: string; value: string }[], name: string) => rows.find((row) => row.name === name)?.value;

test('how far it is', () => {
  expect(reach(eu, eu)).toBe('Same node');
  expect(reach({ node: 'node-b', region: 'eu' }, eu)).toBe('Cross node');
  expect(reach(eu, us)).toBe('Cross region');
  expect(reach({ node: '', region: '' }, us)).toBeUndefined();
  expect(route(far)).toBe('node-a (eu) → node-c (us) → node-d (us)');
});

test('one way is what pipes measure, and half of the round trip where there is nothing else', () => {
  expect(oneWay(far, 20)).toBeCloseTo(10 + 41 + 0.2);
  expect(oneWay(far.slice(0, 1), 20)).toBe(10);
  expect(oneWay(far, undefined)).toBeUndefined();
  expect(oneWay([...far, { node: 'x', region: 'us', role: 'leaf' }], 20)).toBeUndefined();
});

test('a path in rows, with what is not known named', () => {
  const known = pathRows(eu, us, path, { tracks: [path] }, 20);
  expect(value(known, 'Path')).toBe('Cross region');
  expect(value(known, 'Latency one way')).toBe('≈ 51 ms');
  expect(value(known, 'Lost in pipes')).toBe('0.1 %');
  expect(known.find(({ name }) => name === 'Latency one way')?.note).toContain('Estimate');
  const unknown = pathRows(eu, us, undefined, { unknown: 'too many ask at present' }, 20);
  expect(value(unknown, 'Path')).toBe('Cross region');
  expect(unknown[1]).toEqual({ name: 'Nodes on the way', value: 'not known', note: 'too many ask at present' });
  expect(value(pathRows(eu, us, { ...path, path: [], unknown: 'node-a is of an earlier version' }, { tracks: [] }, 20), 'Latency one way')).toBe('not known');
});

test('who chose, and what is received', () => {
  expect(value(placeRows(us), 'Chosen by')).toBe('round trips, another node of the region had too much to do');
  const figures = { codec: 'VP8', pictures: [{ rid: '', width: 640, height: 360, fps: 24.7 }], bitsPerSecond: 498_400, loss: 0, roundTripMs: 4.23, bufferMs: 41 };
  const rows = receivedRows({ ...figures, transport: undefined, limitedBy: undefined }, path);
  expect(rows.map((row) => row.value)).toEqual(['VP8', '“h”, spatial 1, all temporal', '640 × 360, 25 fps', '498 kbit/s', '0.0 %', '4.2 ms', '41 ms']);
});

test('a ticket has all of it', () => {
  const text = asText('Details of Ann', [{ title: 'You', rows: [{ name: 'Node', value: 'node-a', note: 'so' }] }], ['Room: demo']);
  expect(text).toBe('Details of Ann\nRoom: demo\n\nYou\n  Node: node-a (so)\n');
});

test('why a server does not tell is said in words', async () => {
  const stop = new AbortController();
  stop.abort();
  await expect(askPaths('https://here.example/', 'demo', 'token', stop.signal)).rejects.toThrow('the server cannot be reached');
});
