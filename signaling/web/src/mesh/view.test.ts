import { expect, test } from 'vitest';

import type { NodeAnswer, OneWay, PipeAnswer } from './answers';
import { GONE_FOR_MS, compare, newsOf, totals, viewNodes, viewPipes } from './view';

function node(id: string, change: Partial<NodeAnswer> = {}): NodeAnswer {
  return {
    ...{ id, region: 'eu', address: '10.0.0.1:7902', weight: 100, registered: 'serving', reach: 'up', assigned: 2 },
    report: {
      ...{ state: 'serving', release: '0.1.0', load: 0.25, busy: 0.2, sessions: 10, rooms: 3, tracks: 20, subscriptions: 80 },
      ...{ egress_bits_per_second: 5e6, egress_packets_per_second: 600 },
    },
    ...change,
  };
}

function pipe(ends: [string, string], change: Partial<PipeAnswer> = {}): PipeAnswer {
  const way = { one_way_ms: 1, loss: 0, bits_per_second: 1000, tracks: 1 };
  return { nodes: ends, regions: ['eu', 'us'], state: 'up', rtt_ms: 80, connections: 1, there: way, back: way, ...change };
}

const lossy = (loss: number | null): OneWay => ({ one_way_ms: null, loss, bits_per_second: null, tracks: null });

test('a node is no better than anybody says', () => {
  const report = node('n').report;
  if (!report) throw new Error('it has a report');
  const state = (change: Partial<NodeAnswer>) => viewNodes([node('n', change)], [], 0)[0]?.state;
  expect(state({})).toBe('serving');
  expect(state({ registered: 'full' })).toBe('full');
  expect(state({ report: { ...report, state: 'full' } })).toBe('full');
  expect(state({ registered: 'draining' })).toBe('draining');
  expect(state({ registered: 'full', report: { ...report, state: 'draining' } })).toBe('draining');
  expect(state({ report: { ...report, state: 'unknown' } })).toBe('draining');
  expect(state({ reach: 'trying', report: null, registered: 'draining' })).toBe('trying');
  expect(state({ reach: 'down', report: null, registered: 'draining' })).toBe('down');
});

test('what a node was told is known even if it is not reached', () => {
  const isDraining = (change: Partial<NodeAnswer>) => viewNodes([node('n', change)], [], 0)[0]?.isDraining;
  const report = node('n').report;
  if (!report) throw new Error('it has a report');
  expect(isDraining({})).toBe(false);
  expect(isDraining({ reach: 'trying', report: null, registered: 'draining' })).toBe(true);
  expect(isDraining({ report: { ...report, state: 'draining' } })).toBe(true);
  expect(isDraining({ report: { ...report, state: 'unknown' } })).toBe(false);
});

test('who was placed since the report counts, and what is not reported is unknown', () => {
  const [up, down] = viewNodes([node('a'), node('b', { reach: 'down', report: null, assigned: null })], [], 0);
  expect([up?.people, up?.load, up?.rooms]).toEqual([12, 0.25, 3]);
  expect([down?.people, down?.load, down?.rooms]).toEqual([null, null, null]);
});

test('a node that has gone is shown for a while', () => {
  const first = viewNodes([node('a'), node('b')], [], 0);
  const second = viewNodes([node('a')], first, 1000);
  expect(second.map(({ id, state, people }) => [id, state, people])).toEqual([
    ['a', 'serving', 12],
    ['b', 'gone', null],
  ]);
  const third = viewNodes([node('a')], second, 999 + GONE_FOR_MS);
  expect(third.map(({ state, goneAt }) => [state, goneAt])).toEqual([
    ['serving', null],
    ['gone', 1000],
  ]);
  expect(viewNodes([node('a')], third, 1000 + GONE_FOR_MS)).toHaveLength(1);
  // It has come back.
  expect(viewNodes([node('a'), node('b')], third, 2000).map(({ state }) => state)).toEqual(['serving', 'serving']);
});

test('a pipe is as healthy as its state and the worse of its ways', () => {
  const health = (change: Partial<PipeAnswer>) => viewPipes([pipe(['a', 'b'], change)])[0]?.health;
  expect(health({})).toBe('good');
  expect(health({ there: lossy(0.009), back: lossy(null) })).toBe('good');
  expect(health({ there: lossy(0.01) })).toBe('poor');
  expect(health({ back: lossy(0.05) })).toBe('bad');
  expect(health({ state: 'silent' })).toBe('bad');
  expect(health({ state: 'down', there: lossy(null), back: lossy(null) })).toBe('broken');
  expect(health({ state: 'unknown' })).toBe('unknown');
});

test('both ways together; what neither end says is unknown', () => {
  const [one, other] = viewPipes([pipe(['a', 'b']), pipe(['a', 'c'], { there: lossy(null), back: lossy(null) })]);
  expect([one?.bitsPerSecond, one?.tracks, one?.loss]).toEqual([2000, 2, 0]);
  expect([other?.bitsPerSecond, other?.tracks, other?.loss]).toEqual([null, null, null]);
});

test('totals count who is registered, and who does not serve', () => {
  const before = viewNodes([node('x', { region: 'us' })], [], 0);
  const nodes = viewNodes([node('a'), node('b', { registered: 'draining' }), node('c', { reach: 'down', report: null })], before, 0);
  const all = totals(nodes, viewPipes([pipe(['a', 'b']), pipe(['a', 'c'], { state: 'down' })]));
  expect(all).toEqual({
    ...{ nodes: 3, regions: 1, people: 24, pipes: 2, ailing: 1, bitsPerSecond: 4000 },
    others: [
      ['down', 1],
      ['gone', 1],
      ['draining', 1],
    ],
  });
});

test('names are sorted as people do', () => {
  expect(['node-10', 'node-2', 'node-a'].sort(compare)).toEqual(['node-2', 'node-10', 'node-a']);
});

test('what has changed is told', () => {
  const first = viewNodes([node('a'), node('b')], [], 0);
  expect(newsOf(first, first)).toEqual([]);
  const second = viewNodes([node('a', { registered: 'draining' }), node('c')], first, 0);
  expect(newsOf(first, second)).toEqual([
    { id: 'a', state: 'draining' },
    { id: 'b', state: 'gone' },
    { id: 'c', state: 'serving' },
  ]);
});
