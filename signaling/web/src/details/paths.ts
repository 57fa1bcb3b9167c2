// Which way media takes, as signaling tells the participant who receives it.

export interface Hop {
  node: string;
  region: string;
  role: string;
  /** Of the pipe that leads there. */
  pipe?: string | null;
  rtt_ms?: number | null;
  one_way_ms?: number | null;
  loss?: number | null;
}

export interface TrackPath {
  track: string;
  publisher: string;
  codec: string;
  paused: boolean;
  unheard: boolean;
  layer: {
    spatial: number | null;
    temporal: number | null;
    rid: string | null;
    width: number | null;
    height: number | null;
    bits_per_second: number | null;
  } | null;
  path: Hop[];
  unknown: string | null;
}

/** What there is to tell, or why there is nothing. */
export type Told = { tracks: TrackPath[]; unknown?: undefined } | { tracks?: undefined; unknown: string };

/** With the token that one has joined with. A failure is an `Error` that says why. */
export async function askPaths(page: string, room: string, token: string, signal: AbortSignal): Promise<TrackPath[]> {
  let status: number;
  try {
    const url = new URL(`/rooms/${encodeURIComponent(room)}/paths`, page);
    const answer = await fetch(url, { headers: { authorization: `Bearer ${token}` }, cache: 'no-store', signal });
    if (answer.ok) return ((await answer.json()) as { tracks?: TrackPath[] }).tracks ?? [];
    status = answer.status;
  } catch {
    throw new Error('the server cannot be reached');
  }
  throw new Error(refusal(status));
}

function refusal(status: number): string {
  switch (status) {
    case 401:
    case 403:
      return 'the token does not allow to ask';
    case 404:
      return 'the server knows nothing of this call';
    case 429:
    case 503:
      return 'too many ask at present';
    default:
      return 'your node does not answer';
  }
}

interface Place {
  node: string;
  region: string;
}

/** In a word or two: how far it is from where it is published to where it is received. */
export function reach(from: Place, to: Place): string | undefined {
  if (!from.node || !to.node) return undefined;
  if (from.node === to.node) return 'Same node';
  return from.region === to.region ? 'Cross node' : 'Cross region';
}

/** `node-a (eu) → node-c (us) → node-d (us)`. */
export function route(path: readonly Hop[]): string {
  return path.map(({ node, region }) => (region ? `${node} (${region})` : node)).join(' → ');
}

/**
 * From the first node to this browser, in milliseconds: what pipes measure on their way, half of the round trip
 * where one does not, and half of the round trip to one's own node. `undefined`: a part of it is not known.
 */
export function oneWay(path: readonly Hop[], roundTripMs: number | undefined): number | undefined {
  if (roundTripMs === undefined) return undefined;
  let sum = roundTripMs / 2;
  for (const hop of path.slice(1)) {
    const ms = hop.one_way_ms ?? half(hop.rtt_ms);
    if (ms === undefined) return undefined;
    sum += ms;
  }
  return sum;
}

function half(milliseconds: number | null | undefined): number | undefined {
  return typeof milliseconds === 'number' ? milliseconds / 2 : undefined;
}
