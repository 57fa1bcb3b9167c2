// What is told of a connection: names and values, on the page and in a support ticket. Pure.

import type { Place } from '../call/live';
import type { Figures } from './figures';
import { type Told, type TrackPath, oneWay, reach, route } from './paths';

export interface Row {
  name: string;
  value: string;
  /** What has to be known to read the value rightly. */
  note?: string;
}

export interface Group {
  title: string;
  rows: Row[];
}

const UNKNOWN = 'not known';

/** Where somebody is. */
export function placeRows({ node, region, placement }: Place): Row[] {
  return [
    { name: 'Node', value: node || UNKNOWN },
    { name: 'Region', value: region || UNKNOWN },
    ...(placement ? [{ name: 'Chosen by', value: chosen(placement) }] : []),
  ];
}

/** How it gets from them to us. */
export function pathRows(theirs: Place, own: Place, path: TrackPath | undefined, told: Told | undefined, roundTripMs: number | undefined): Row[] {
  const ways = path?.path ?? [];
  const known = ways.length > 0;
  const first = ways[0] ?? theirs;
  const rows: Row[] = [{ name: 'Path', value: reach(first, own) ?? UNKNOWN }];
  if (known) {
    const pipes = ways.slice(1).map((hop) => hop.loss).filter((loss) => typeof loss === 'number');
    rows.push({ name: 'Nodes on the way', value: route(ways) });
    if (pipes.length > 0) rows.push({ name: 'Lost in pipes', value: share(Math.max(...pipes)) });
  } else {
    const why = told?.unknown ?? path?.unknown ?? (told?.tracks ? 'nothing is received of them' : 'being asked');
    rows.push({ name: 'Nodes on the way', value: UNKNOWN, note: why });
  }
  const latency = known ? oneWay(ways, roundTripMs) : undefined;
  rows.push({
    name: 'Latency one way',
    value: latency === undefined ? UNKNOWN : `≈ ${time(latency)}`,
    note: 'Estimate, from their node to you: what pipes measure, and half of your round trip',
  });
  return rows;
}

/** What the browser says of something that is received. */
export function receivedRows(it: Figures | undefined, path: TrackPath | undefined): Row[] {
  if (!it) return [{ name: 'Received', value: 'nothing at present' }];
  const [size] = it.pictures;
  return [
    { name: 'Codec', value: it.codec ?? path?.codec.split('/').at(-1) ?? UNKNOWN },
    ...(path?.layer || size ? [{ name: 'Layer', value: layer(path) }] : []),
    ...(size ? [{ name: 'Resolution', value: resolution(size) }] : []),
    { name: 'Bitrate', value: rate(it.bitsPerSecond) },
    { name: 'Loss', value: share(it.loss) },
    { name: 'Round trip', value: time(it.roundTripMs), note: 'To your own node' },
    { name: 'Buffered', value: time(it.bufferMs) },
  ];
}

/** What the browser says of something that is sent. */
export function sentRows(it: Figures | undefined): Row[] {
  if (!it) return [{ name: 'Sent', value: 'nothing at present' }];
  const sizes = it.pictures.toSorted((one, other) => other.width - one.width);
  return [
    { name: 'Codec', value: it.codec ?? UNKNOWN },
    ...sizes.map((size) => ({ name: size.rid ? `Layer “${size.rid}”` : 'Resolution', value: resolution(size) })),
    { name: 'Bitrate', value: rate(it.bitsPerSecond) },
    { name: 'Loss', value: share(it.loss) },
    ...(it.limitedBy ? [{ name: 'Limited by', value: it.limitedBy === 'cpu' ? 'this device' : it.limitedBy }] : []),
  ];
}

/** Of oneself: the line to the node. */
export function lineRows(it: Figures | undefined): Row[] {
  const trip = it?.roundTripMs;
  return [
    { name: 'Transport', value: it?.transport ?? UNKNOWN },
    { name: 'Round trip', value: time(trip), note: 'To your node' },
    { name: 'Latency one way', value: trip === undefined ? UNKNOWN : `≈ ${time(trip / 2)}`, note: 'Estimate: half of the round trip' },
  ];
}

/** For a support ticket. */
export function asText(title: string, groups: readonly Group[], context: readonly string[]): string {
  const lines = groups.flatMap((group) => [
    '',
    group.title,
    ...group.rows.map(({ name, value, note }) => `  ${name}: ${value}${note ? ` (${note})` : ''}`),
  ]);
  return [title, ...context, ...lines, ''].join('\n');
}

/** `measured/ring`: what told the region, and how the node was chosen in it. */
function chosen(placement: string): string {
  const [clue = '', how = ''] = placement.split('/');
  const clues: Record<string, string> = {
    token: 'the token',
    asked: 'your choice',
    measured: 'round trips',
    proxy: 'the network',
    address: 'the address',
    own: 'the server that was asked',
    nearest: 'distance',
  };
  const hows: Record<string, string> = {
    overflow: 'another node of the region had too much to do',
    region: 'the region was full',
    off_ring: 'a new node',
    sticky: 'the room was there',
  };
  const reason = hows[how];
  return `${clues[clue] ?? clue}${reason ? `, ${reason}` : ''}`;
}

function layer(path: TrackPath | undefined): string {
  const it = path?.layer;
  if (!it) return path?.paused ? 'paused' : UNKNOWN;
  const parts = [
    ...(it.rid ? [`“${it.rid}”`] : []),
    ...(it.spatial === null ? [] : [`spatial ${it.spatial}`]),
    it.temporal === null ? 'all temporal' : `temporal ${it.temporal}`,
  ];
  return parts.join(', ');
}

function resolution({ width, height, fps }: { width: number; height: number; fps: number | undefined }): string {
  return `${width} × ${height}${fps === undefined ? '' : `, ${Math.round(fps)} fps`}`;
}

export function rate(bitsPerSecond: number | undefined): string {
  if (bitsPerSecond === undefined) return UNKNOWN;
  if (bitsPerSecond >= 1e6) return `${(bitsPerSecond / 1e6).toFixed(1)} Mbit/s`;
  return `${Math.round(bitsPerSecond / 1e3)} kbit/s`;
}

function share(part: number | undefined): string {
  return part === undefined ? UNKNOWN : `${(part * 100).toFixed(1)} %`;
}

export function time(milliseconds: number | undefined): string {
  if (milliseconds === undefined) return UNKNOWN;
  return milliseconds < 10 ? `${milliseconds.toFixed(1)} ms` : `${Math.round(milliseconds)} ms`;
}
