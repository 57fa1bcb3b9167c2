import { expect, test } from 'vitest';

import { type Box, type Layout, arrange } from './layout';

/** Regions with so many nodes each. */
function nodes(regions: Record<string, number>) {
  return Object.entries(regions).flatMap(([region, count]) =>
    Array.from({ length: count }, (_, index) => ({ id: `${region}-${index + 1}`, region })),
  );
}

function pipe(one: string, other: string, bitsPerSecond: number | null = 1e6) {
  return { id: `${one} ${other}`, ends: [one, other] as [string, string], bitsPerSecond };
}

/** A pipe between each pair of the first nodes of regions, and from them to the others of their region. */
function pipesOf(all: { id: string; region: string }[]) {
  const first = new Map<string, string>();
  const pipes = [];
  for (const { id, region } of all) {
    const gateway = first.get(region);
    if (gateway) pipes.push(pipe(gateway, id));
    else {
      for (const other of first.values()) pipes.push(pipe(other, id));
      first.set(region, id);
    }
  }
  return pipes;
}

function overlap(one: Box, other: Box): boolean {
  const apart = one.x + one.width <= other.x || other.x + other.width <= one.x || one.y + one.height <= other.y || other.y + other.height <= one.y;
  return !apart;
}

function within(inner: Box, outer: Box): boolean {
  return inner.x >= outer.x && inner.y >= outer.y && inner.x + inner.width <= outer.x + outer.width && inner.y + inner.height <= outer.y + outer.height;
}

/** Where a path begins and ends. */
function ends(path: string): [number, number, number, number] {
  const numbers = path.match(/-?[\d.]+/g)?.map(Number) ?? [];
  return [numbers[0] ?? NaN, numbers[1] ?? NaN, numbers.at(-2) ?? NaN, numbers.at(-1) ?? NaN];
}

const MESHES: Record<string, number>[] = [
  { eu: 1 },
  { eu: 2 },
  { eu: 2, us: 1 },
  { one: 7 },
  { eu: 9, us: 8, asia: 7 },
  { eu: 16, us: 14, asia: 12, africa: 10, south: 8 },
  { eu: 50, us: 5, asia: 5 },
  { a: 70, b: 60, c: 70 },
];

for (const width of [280, 336, 720, 1180]) {
  test.each(MESHES)(`everything has its place, ${width} px: %j`, (mesh) => {
    const all = nodes(mesh);
    const layout = arrange(all, pipesOf(all), width);
    expect(layout.nodes.map(({ id }) => id).sort()).toEqual(all.map(({ id }) => id).sort());
    const frame = { x: 0, y: 0, width: layout.width, height: layout.height };
    for (const region of layout.regions) expect(within(region, frame), region.name).toBe(true);
    for (const node of layout.nodes) {
      const own = layout.regions.filter((region) => within(node, region));
      expect(own.map(({ name }) => name), node.id).toEqual([node.region]);
    }
    layout.nodes.forEach((one, index) => {
      for (const other of layout.nodes.slice(index + 1)) expect(overlap(one, other), `${one.id} and ${other.id}`).toBe(false);
    });
    expect(layout.pipes).toHaveLength(pipesOf(all).length);
    for (const { ends: [from, to], path } of layout.pipes) {
      const [x1, y1, x2, y2] = ends(path);
      for (const [id, x, y] of [[from, x1, y1], [to, x2, y2]] as const) {
        const node = layout.nodes.find((it) => it.id === id);
        if (!node) throw new Error(`${id} is not there`);
        expect(x, `${id} of ${path}`).toBeCloseTo(node.side === 'left' ? node.x + node.width : node.x, 1);
        expect(y).toBeGreaterThanOrEqual(node.y);
        expect(y).toBeLessThanOrEqual(node.y + node.height);
      }
    }
  });
}

test('columns are about as high as each other', () => {
  for (const mesh of MESHES.slice(1)) {
    const { nodes: placed, density } = arrange(nodes(mesh), [], 900);
    const left = placed.filter(({ side }) => side === 'left').length;
    const difference = Math.abs(placed.length - 2 * left);
    expect(difference, `${JSON.stringify(mesh)} as ${density}`).toBeLessThanOrEqual(Math.max(2, placed.length * 0.34));
  }
});

test('a region is in both columns only if it has to be', () => {
  const split = (mesh: Record<string, number>) => arrange(nodes(mesh), [], 900).regions.filter(({ continued }) => continued).map(({ name }) => name);
  expect(split({ eu: 2, us: 1 })).toEqual([]);
  expect(split({ eu: 16, us: 14, asia: 12, africa: 10, south: 8 })).toEqual([]);
  expect(split({ one: 7 })).toEqual(['one']);
  expect(split({ eu: 50, us: 5, asia: 5 })).toEqual(['eu']);
});

test('the more nodes, the less is said of each', () => {
  const density = (count: number) => arrange(nodes({ eu: count }), [], 900).density;
  expect([3, 10, 11, 28, 29, 60].map(density)).toEqual(['card', 'card', 'row', 'row', 'line', 'line']);
});

test('sixty nodes are not higher than a screen', () => {
  const mesh = { eu: 16, us: 14, asia: 12, africa: 10, south: 8 };
  expect(arrange(nodes(mesh), [], 720).height).toBeLessThan(1000);
});

test('the order of what is told does not matter', () => {
  const all = nodes({ us: 3, eu: 4 });
  const pipes = pipesOf(all);
  const turned = arrange([...all].reverse(), [...pipes].reverse(), 900);
  const straight = arrange(all, pipes, 900);
  const sorted = (layout: Layout) => ({ ...layout, pipes: [...layout.pipes].sort((one, other) => one.id.localeCompare(other.id)) });
  expect(sorted(turned)).toEqual(sorted(straight));
});

test('a line is the wider the more goes through it, within bounds', () => {
  const all = nodes({ eu: 1, us: 1 });
  const width = (bits: number | null) => arrange(all, [pipe('eu-1', 'us-1', bits)], 900).pipes[0]?.width ?? NaN;
  const widths = [null, 0, 1e6, 5e6, 4e7, 1e9, 1e12].map(width);
  expect(widths[0]).toBe(widths[1]);
  for (let index = 2; index < widths.length; index += 1) expect(widths[index]).toBeGreaterThanOrEqual(widths[index - 1] ?? NaN);
  expect(widths[0]).toBeGreaterThan(1);
  expect(widths.at(-1)).toBeLessThan(10);
});

test('a pipe to nobody is not drawn', () => {
  const all = nodes({ eu: 1, us: 1 });
  expect(arrange(all, [pipe('eu-1', 'gone'), pipe('eu-1', 'eu-1')], 900).pipes).toEqual([]);
});

test('numbers beside pipes do not cover each other, and are left out where there is no room', () => {
  const all = nodes({ eu: 2, us: 2 });
  const few = arrange(all, pipesOf(all), 900);
  const labels = few.pipes.map(({ label }) => label);
  expect(labels.every((label) => label !== null)).toBe(true);
  labels.forEach((one, index) => {
    for (const other of labels.slice(index + 1)) {
      const apart = Math.abs((one?.y ?? 0) - (other?.y ?? 0)) >= 36 || Math.abs((one?.x ?? 0) - (other?.x ?? 0)) >= 104;
      expect(apart, JSON.stringify(labels)).toBe(true);
    }
  });
  expect(arrange(all, pipesOf(all), 360).pipes.every(({ label }) => label === null)).toBe(true);
  const many = nodes({ eu: 5, us: 5 });
  expect(arrange(many, pipesOf(many), 900).pipes.every(({ label }) => label === null)).toBe(true);
});

test('pipes of one node do not cross where they begin', () => {
  const all = nodes({ eu: 4, us: 2 });
  const layout = arrange(all, [pipe('eu-2', 'eu-1'), pipe('eu-2', 'eu-3'), pipe('eu-2', 'eu-4'), pipe('eu-2', 'us-1'), pipe('eu-2', 'us-2')], 900);
  const begins = layout.pipes.map(({ id, path }) => [id.split(' ')[1], ends(path)[1]] as const);
  const order = begins.sort((one, other) => one[1] - other[1]).map(([id]) => id);
  expect(order).toEqual(['eu-1', 'us-1', 'us-2', 'eu-4', 'eu-3']);
});

test('no nodes, no picture', () => {
  expect(arrange([], [], 900)).toMatchObject({ nodes: [], regions: [], pipes: [], height: 0 });
});
