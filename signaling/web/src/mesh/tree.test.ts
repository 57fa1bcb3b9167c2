import { expect, test } from 'vitest';

import type { Branch, TrackTree } from './answers';
import { allStops, arrangeTree, waysOf } from './tree';

function branch(node: string, watchers: number | null, branches: Branch[] = []): Branch {
  return { node, region: 'eu', role: 'leaf', watchers, branches, pipe: 'up', rtt_ms: 80, one_way_ms: 40, loss: 0 };
}

function track(track: string, publisher: string, tree: Branch, detached: string[] = []): TrackTree {
  return { track, name: '', kind: 'video', source: 'camera', publisher, watchers: 0, tree, detached };
}

test('tracks of one publisher that go the same way are one', () => {
  const ways = waysOf([
    track('v', 'ben', branch('a', 0, [branch('b', 3), branch('c', null)]), ['d']),
    track('m', 'ben', branch('a', 1, [branch('b', 5), branch('c', null)]), ['d']),
    track('s', 'ben', branch('a', 0, [branch('b', 2, [branch('c', 1)])])),
    track('x', 'ada', branch('a', 0, [branch('b', 3), branch('c', null)])),
  ]);
  expect(ways.map(({ publisher, tracks }) => [publisher, tracks.map((it) => it.track)])).toEqual([
    ['ada', ['x']],
    ['ben', ['v', 'm']],
    ['ben', ['s']],
  ]);
  const root = ways[1]?.root;
  expect(root && allStops(root).map(({ node, watchers }) => [node, watchers])).toEqual([
    ['a', 1],
    ['b', 5],
    ['c', null],
  ]);
  expect(ways[1]?.detached).toEqual(['d']);
});

test('each stop is right of the one it comes from, and none covers another', () => {
  const wide = branch('o', 0, [branch('g', 0, Array.from({ length: 5 }, (_, index) => branch(`l${index}`, 1))), branch('h', 2), branch('i', 0, [branch('j', 1)])]);
  const [way] = waysOf([track('v', 'ada', wide)]);
  if (!way) throw new Error('there is one');
  const layout = arrangeTree(way.root, 900);
  if (!layout) throw new Error('there is room');
  expect(layout.stops).toHaveLength(10);
  expect(layout.width).toBeLessThanOrEqual(900);
  layout.stops.forEach((one, index) => {
    expect(one.x + one.width).toBeLessThanOrEqual(layout.width + 0.001);
    expect(one.y + one.height).toBeLessThanOrEqual(layout.height);
    expect(one.leg === null).toBe(one.stop.node === 'o');
    for (const other of layout.stops.slice(index + 1)) {
      const covers = one.x === other.x && Math.abs(one.y - other.y) < one.height;
      expect(covers, `${one.stop.node} and ${other.stop.node}`).toBe(false);
    }
  });
  const at = (node: string) => layout.stops.find(({ stop }) => stop.node === node);
  expect(at('g')?.x).toBeGreaterThan((at('o')?.x ?? NaN) + (at('o')?.width ?? NaN));
  expect(at('g')?.y).toBe(at('l2')?.y);
});

test('where there is no room there is no picture', () => {
  const [way] = waysOf([track('v', 'ada', branch('o', 0, [branch('g', 0, [branch('l', 1)])]))]);
  if (!way) throw new Error('there is one');
  expect(arrangeTree(way.root, 320)).toBeNull();
  expect(arrangeTree(way.root, 560)?.stops).toHaveLength(3);
});

test('nobody watches', () => {
  const [way] = waysOf([track('v', 'ada', branch('o', 0))]);
  expect(way && arrangeTree(way.root, 320)).toMatchObject({ height: 46, stops: [{ leg: null }] });
});
