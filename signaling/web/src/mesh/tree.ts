// A room's tracks as trees: those of one publisher that take the same way are one, and each has its place in a
// picture. Pure.

import type { Branch, TrackTree } from './answers';
import { compare } from './view';

/** Tracks of one publisher that get to the same nodes the same way. */
export interface Way {
  id: string;
  publisher: string;
  tracks: TrackTree[];
  root: Stop;
  detached: string[];
}

/** A node that tracks come to. */
export interface Stop {
  node: string;
  region: string | null;
  role: string;
  /** Of the track that most watch there; `null`: it does not say. */
  watchers: number | null;
  pipe: Branch['pipe'];
  rttMs: number | null;
  loss: number | null;
  stops: Stop[];
}

export function waysOf(tracks: TrackTree[]): Way[] {
  const ways = new Map<string, TrackTree[]>();
  for (const track of tracks) {
    const id = `${track.publisher} ${shapeOf(track.tree)}`;
    ways.set(id, [...(ways.get(id) ?? []), track]);
  }
  const all = [...ways].map(([id, together]) => {
    const detached = new Set(together.flatMap((track) => track.detached));
    return { id, publisher: together[0]?.publisher ?? '', tracks: together, root: join(together.map(({ tree }) => tree)), detached: [...detached] };
  });
  return all.sort((one, other) => compare(one.publisher, other.publisher));
}

function shapeOf({ node, branches }: Branch): string {
  return `${node}(${branches.map(shapeOf).join(',')})`;
}

/** Branches of the same shape as one. */
function join(branches: Branch[]): Stop {
  const [first] = branches;
  if (!first) throw new Error('there is at least one track');
  const watchers = branches.flatMap((branch) => (branch.watchers === null ? [] : [branch.watchers]));
  return {
    node: first.node,
    region: first.region,
    role: first.role,
    watchers: watchers.length > 0 ? Math.max(...watchers) : null,
    pipe: first.pipe,
    rttMs: first.rtt_ms ?? null,
    loss: first.loss ?? null,
    stops: first.branches.map((_, index) => join(branches.flatMap(({ branches: next }) => next[index] ?? []))),
  };
}

/** It and all that come after it. */
export function allStops(stop: Stop): Stop[] {
  return [stop, ...stop.stops.flatMap(allStops)];
}

export interface PlacedStop {
  stop: Stop;
  x: number;
  y: number;
  width: number;
  height: number;
  /** The way from the one before it, and where its numbers stand. */
  leg: { path: string; x: number; y: number } | null;
}

export interface TreeLayout {
  width: number;
  height: number;
  stops: PlacedStop[];
}

const STOP = { least: 128, most: 216, height: 46, apart: 10 };
const LEG = 78;

/** From left to right; `null`: that needs more room than there is. */
export function arrangeTree(root: Stop, width: number): TreeLayout | null {
  const depth = depthOf(root);
  const wide = Math.min(STOP.most, (width - (depth - 1) * LEG) / depth);
  if (wide < STOP.least) return null;
  const stops: PlacedStop[] = [];
  let next = 0;
  const place = (stop: Stop, level: number): PlacedStop => {
    const placed: PlacedStop = { stop, x: level * (wide + LEG), y: 0, width: wide, height: STOP.height, leg: null };
    stops.push(placed);
    const after = stop.stops.map((it) => place(it, level + 1));
    if (after.length === 0) {
      placed.y = next;
      next += STOP.height + STOP.apart;
    } else {
      placed.y = ((after[0]?.y ?? 0) + (after.at(-1)?.y ?? 0)) / 2;
    }
    for (const it of after) it.leg = leg(placed, it);
    return placed;
  };
  place(root, 0);
  return { width: depth * wide + (depth - 1) * LEG, height: next - STOP.apart, stops };
}

function leg(from: PlacedStop, to: PlacedStop): PlacedStop['leg'] {
  const [x1, y1, x2, y2] = [from.x + from.width, from.y + from.height / 2, to.x, to.y + to.height / 2];
  const bend = x1 + 14;
  const path = y1 === y2 ? `M${x1},${y1}H${x2}` : `M${x1},${y1}H${bend}V${y2}H${x2}`;
  return { path, x: (bend + x2) / 2, y: y2 };
}

function depthOf(stop: Stop): number {
  return 1 + Math.max(0, ...stop.stops.map(depthOf));
}
