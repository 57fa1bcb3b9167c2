// Where regions, nodes and pipes are in the picture. Pure: the same mesh gives the same picture.
//
// Nodes stand in two columns, grouped by region; pipes run between the columns, so that none is drawn over a
// node, however many there are. The more nodes, the lower each of them.

import { compare } from './view';

export interface Box {
  x: number;
  y: number;
  width: number;
  height: number;
}

export type Side = 'left' | 'right';

/** How much is said of each node. */
export type Density = 'card' | 'row' | 'line';

export interface PlacedRegion extends Box {
  name: string;
  side: Side;
  /** Not its first part: it is in both columns. */
  continued: boolean;
}

export interface PlacedNode extends Box {
  id: string;
  region: string;
  side: Side;
}

export interface Point {
  x: number;
  y: number;
}

export interface PlacedPipe {
  id: string;
  ends: [string, string];
  path: string;
  middle: Point;
  width: number;
  /** Where there is room to say something of it. */
  label: Point | null;
}

export interface Layout {
  width: number;
  height: number;
  density: Density;
  regions: PlacedRegion[];
  /** In the order in which the keyboard goes through them: down the left column, then the right one. */
  nodes: PlacedNode[];
  pipes: PlacedPipe[];
}

interface Node {
  id: string;
  region: string;
}

interface Pipe {
  id: string;
  ends: [string, string];
  bitsPerSecond: number | null;
}

interface Size {
  /** Up to so many nodes. */
  most: number;
  height: number;
  gap: number;
  width: number;
}

const SIZES: Record<Density, Size> = {
  card: { most: 10, height: 76, gap: 22, width: 248 },
  row: { most: 28, height: 42, gap: 6, width: 240 },
  line: { most: Infinity, height: 23, gap: 2, width: 236 },
};

const HEADING = 30;
const PADDING = 8;
const BETWEEN_REGIONS = 14;

/** Pipes need some room to be told from each other, and numbers beside them; in too much they get lost. */
const CHANNEL = { least: 62, wanted: 190, most: 560 };

/** Of the picture, from which on pipes get the room that they want. */
const WIDE = 560;

/** A region that is in both columns is harder to read than a picture that is higher by so many nodes. */
const PRICE_OF_CUT = 5;

/** Ways to share them out double with each. */
const MOST_REGIONS_TRIED = 12;

const LABEL = { width: 104, height: 36, mostPipes: 8, channel: 180 };

/** Ends of pipes at one node are so far apart, if there is room. */
const PORT = { apart: 13, inset: 6 };

/** Of pipes. Among many each is thinner. */
const LINES: Record<Density, { thinnest: number; thickest: number; perDoubling: number }> = {
  card: { thinnest: 1.5, thickest: 9, perDoubling: 1.1 },
  row: { thinnest: 1.25, thickest: 6, perDoubling: 0.7 },
  line: { thinnest: 1, thickest: 4, perDoubling: 0.4 },
};

export function arrange(nodes: Node[], pipes: Pipe[], width: number): Layout {
  const sorted = [...nodes].sort((one, other) => compare(one.region, other.region) || compare(one.id, other.id));
  const density = densityFor(sorted.length);
  const size = SIZES[density];
  const between = width >= WIDE ? CHANNEL.wanted : CHANNEL.least;
  const column = Math.max(40, Math.min(size.width, Math.floor((width - between) / 2)));
  const channel = Math.min(CHANNEL.most, Math.max(0, width - 2 * column));
  const edge = Math.max(0, (width - 2 * column - channel) / 2);
  const [left, right] = inColumns(sorted, size);
  const regionsOf = { left: byRegion(left), right: byRegion(right) };
  const height = Math.max(heightOf(regionsOf.left, size), heightOf(regionsOf.right, size));
  const regions: PlacedRegion[] = [];
  const placed: PlacedNode[] = [];
  for (const side of ['left', 'right'] as const) {
    const x = side === 'left' ? edge : edge + column + channel;
    let y = (height - heightOf(regionsOf[side], size)) / 2;
    for (const region of regionsOf[side]) {
      const box = { x, y, width: column, height: regionHeight(region.nodes.length, size) };
      const continued = side === 'right' && left.some((node) => node.region === region.name);
      regions.push({ ...box, name: region.name, side, continued });
      region.nodes.forEach((node, index) => {
        const top = y + HEADING + index * (size.height + size.gap);
        placed.push({ id: node.id, region: node.region, side, x: x + PADDING, y: top, width: column - 2 * PADDING, height: size.height });
      });
      y += box.height + BETWEEN_REGIONS;
    }
  }
  return { width, height, density, regions, nodes: placed, pipes: connect(placed, pipes, { density, channel, height }) };
}

function densityFor(nodes: number): Density {
  const densities: Density[] = ['card', 'row', 'line'];
  return densities.find((density) => nodes <= SIZES[density].most) ?? 'line';
}

/** Both columns about as high as each other, each in the order of names. */
function inColumns(nodes: Node[], size: Size): [Node[], Node[]] {
  const regions = byRegion(nodes);
  const whole = wholeRegions(regions, size);
  const cut = bestCut(nodes, size);
  const price = (columns: [Node[], Node[]]) => Math.max(...columns.map((column) => heightOf(byRegion(column), size)));
  return price(whole) <= price(cut) + PRICE_OF_CUT * (size.height + size.gap) && regions.length > 1 ? whole : cut;
}

/** Of all ways to share regions out, with the first one on the left. Of very many regions every other one is. */
function wholeRegions(regions: Region[], size: Size): [Node[], Node[]] {
  const columns = (isRight: (index: number) => boolean): [Node[], Node[]] => [
    regions.filter((_, index) => !isRight(index)).flatMap((region) => region.nodes),
    regions.filter((_, index) => isRight(index)).flatMap((region) => region.nodes),
  ];
  if (regions.length > MOST_REGIONS_TRIED) return columns((index) => index % 2 === 1);
  const heights = regions.map((region) => regionHeight(region.nodes.length, size) + BETWEEN_REGIONS);
  const all = heights.reduce((sum, height) => sum + height, 0);
  let best = 0;
  let least = Infinity;
  for (let set = 0; set < 2 ** regions.length; set += 2) {
    const right = heights.reduce((sum, height, index) => sum + ((set >> index) & 1 ? height : 0), 0);
    const higher = Math.max(right, all - right);
    if (higher < least) [best, least] = [set, higher];
  }
  return columns((index) => ((best >> index) & 1) === 1);
}

/** The first nodes on the left, the others on the right, also if that goes through a region. */
function bestCut(nodes: Node[], size: Size): [Node[], Node[]] {
  let best = nodes.length;
  let least = Infinity;
  for (let cut = 1; cut < nodes.length; cut += 1) {
    const [left, right] = [byRegion(nodes.slice(0, cut)), byRegion(nodes.slice(cut))];
    const higher = Math.max(heightOf(left, size), heightOf(right, size));
    if (higher < least) [best, least] = [cut, higher];
  }
  return [nodes.slice(0, best), nodes.slice(best)];
}

interface Region {
  name: string;
  nodes: Node[];
}

function byRegion(nodes: Node[]): Region[] {
  const regions: Region[] = [];
  for (const node of nodes) {
    const last = regions.at(-1);
    if (last?.name === node.region) last.nodes.push(node);
    else regions.push({ name: node.region, nodes: [node] });
  }
  return regions;
}

function regionHeight(nodes: number, size: Size): number {
  return HEADING + nodes * (size.height + size.gap) - size.gap + PADDING;
}

function heightOf(regions: Region[], size: Size): number {
  const heights = regions.map((region) => regionHeight(region.nodes.length, size));
  return heights.reduce((all, height) => all + height, 0) + Math.max(0, regions.length - 1) * BETWEEN_REGIONS;
}

interface Room {
  density: Density;
  channel: number;
  height: number;
}

function connect(nodes: PlacedNode[], pipes: Pipe[], { density, channel, height }: Room): PlacedPipe[] {
  const byId = new Map(nodes.map((node) => [node.id, node]));
  const drawn = pipes.flatMap((pipe) => {
    const [from, to] = [byId.get(pipe.ends[0]), byId.get(pipe.ends[1])];
    return from && to && from !== to ? [{ pipe, from, to }] : [];
  });
  const ports = findPorts(drawn);
  const placed = drawn.map(({ pipe, from, to }) => {
    const [start, end] = [port(ports, pipe, from), port(ports, pipe, to)];
    const { path, middle } = curve(start, from.side, end, to.side, channel);
    return { id: pipe.id, ends: pipe.ends, path, middle, width: lineWidth(pipe.bitsPerSecond ?? 0, density), label: null };
  });
  const speaks = placed.length <= LABEL.mostPipes && channel >= LABEL.channel;
  return speaks ? withLabels(placed, height) : placed;
}

type Ports = Map<string, number>;

const key = (pipe: Pipe, node: PlacedNode) => `${pipe.id}\n${node.id}`;

/** How high at each node its pipes begin: in an order in which they do not cross there. */
function findPorts(drawn: { pipe: Pipe; from: PlacedNode; to: PlacedNode }[]): Ports {
  const ends = new Map<PlacedNode, { pipe: Pipe; other: PlacedNode }[]>();
  for (const { pipe, from, to } of drawn) {
    ends.set(from, [...(ends.get(from) ?? []), { pipe, other: to }]);
    ends.set(to, [...(ends.get(to) ?? []), { pipe, other: from }]);
  }
  const ports: Ports = new Map();
  for (const [node, pipes] of ends) {
    pipes.sort((one, other) => rank(node, one.other) - rank(node, other.other) || compare(one.pipe.id, other.pipe.id));
    const apart = Math.min(PORT.apart, (node.height - 2 * PORT.inset) / Math.max(1, pipes.length - 1));
    const first = node.y + node.height / 2 - ((pipes.length - 1) * apart) / 2;
    pipes.forEach(({ pipe }, index) => ports.set(key(pipe, node), first + index * apart));
  }
  return ports;
}

/** Upwards in its own column the nearest first, then the other column, then downwards the nearest last. */
function rank(node: PlacedNode, other: PlacedNode): number {
  const far = 1e6;
  if (node.side !== other.side) return other.y;
  return other.y < node.y ? node.y - other.y - far : far - (other.y - node.y);
}

function port(ports: Ports, pipe: Pipe, node: PlacedNode): Point {
  return { x: node.side === 'left' ? node.x + node.width : node.x, y: ports.get(key(pipe, node)) ?? node.y };
}

function curve(start: Point, from: Side, end: Point, to: Side, channel: number): { path: string; middle: Point } {
  const reach = from === to ? Math.min(channel * 0.62, 30 + Math.abs(end.y - start.y) * 0.42) : (channel + 2 * PADDING) * 0.46;
  const first = { x: start.x + (from === 'left' ? reach : -reach), y: start.y };
  const second = { x: end.x + (to === 'left' ? reach : -reach), y: end.y };
  const path = `M${at(start)}C${at(first)} ${at(second)} ${at(end)}`;
  return { path, middle: { x: (start.x + 3 * first.x + 3 * second.x + end.x) / 8, y: (start.y + 3 * first.y + 3 * second.y + end.y) / 8 } };
}

function at({ x, y }: Point): string {
  return `${Math.round(x * 10) / 10},${Math.round(y * 10) / 10}`;
}

function lineWidth(bitsPerSecond: number, density: Density): number {
  const { thinnest, thickest, perDoubling } = LINES[density];
  return Math.min(thickest, thinnest + perDoubling * Math.log2(1 + bitsPerSecond / 1e6));
}

/** Each at the middle of its pipe, moved down and then up until none covers another. */
function withLabels(pipes: PlacedPipe[], height: number): PlacedPipe[] {
  const order = [...pipes].sort((one, other) => one.middle.y - other.middle.y || compare(one.id, other.id));
  const labels = order.map(({ id, middle }) => ({ id, x: middle.x, y: middle.y }));
  const half = LABEL.height / 2;
  labels.forEach((label, index) => {
    const above = labels.slice(0, index).filter((it) => covers(it.x, label.x));
    label.y = Math.max(label.y, half, ...above.map(({ y }) => y + LABEL.height));
  });
  for (let index = labels.length - 1; index >= 0; index -= 1) {
    const label = labels[index];
    if (!label) continue;
    const below = labels.slice(index + 1).filter((it) => covers(it.x, label.x));
    label.y = Math.min(label.y, height - half, ...below.map(({ y }) => y - LABEL.height));
  }
  // Too many of them say nothing.
  if (labels.some(({ y }) => y < half - 1)) return pipes;
  const byId = new Map(labels.map(({ id, x, y }) => [id, { x, y }]));
  return pipes.map((pipe) => ({ ...pipe, label: byId.get(pipe.id) ?? null }));
}

function covers(one: number, other: number): boolean {
  return Math.abs(one - other) < LABEL.width;
}
