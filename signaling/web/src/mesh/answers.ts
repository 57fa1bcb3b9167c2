// What the admin API answers, as far as this page shows it. An answer that is not of this form is not shown.

export interface NodeAnswer {
  id: string;
  region: string;
  address: string;
  weight: number;
  registered: 'serving' | 'full' | 'draining';
  reach: 'up' | 'down' | 'trying';
  report: Report | null;
  assigned: number | null;
}

export interface Report {
  state: 'serving' | 'full' | 'draining' | 'unknown';
  release: string;
  load: number;
  busy: number;
  sessions: number;
  rooms: number;
  tracks: number;
  subscriptions: number;
  egress_bits_per_second: number;
  egress_packets_per_second: number;
}

export type PipeState = 'up' | 'silent' | 'down' | 'unknown';

/** What goes through a pipe one way; `null` is not known. */
export interface OneWay {
  one_way_ms: number | null;
  loss: number | null;
  bits_per_second: number | null;
  tracks: number | null;
}

export interface PipeAnswer {
  nodes: [string, string];
  regions: [string | null, string | null];
  state: PipeState;
  rtt_ms: number | null;
  connections: number | null;
  there: OneWay;
  back: OneWay;
}

/** A node that said nothing, and why. */
export interface Mute {
  node: string;
  region: string | null;
  why: string;
}

export interface RoomSummary {
  name: string;
  id: string;
  homes: string[];
  sequence: number;
  participants: number;
}

export interface MemberAnswer {
  identity: string;
  id: string;
  node: string;
  process: string | null;
  presence: 'joining' | 'here' | 'away' | 'rejoining';
  tracks: string[];
  placed: { by: string; reason: string } | null;
}

export interface RoomAnswer extends RoomSummary {
  members: MemberAnswer[];
}

export interface Branch {
  node: string;
  region: string | null;
  role: string;
  watchers: number | null;
  branches: Branch[];
  pipe?: PipeState | null;
  rtt_ms?: number | null;
  one_way_ms?: number | null;
  loss?: number | null;
}

export interface TrackTree {
  track: string;
  name: string;
  kind: string;
  source: string;
  publisher: string;
  watchers: number;
  tree: Branch;
  detached: string[];
}

export interface TreeAnswer {
  tracks: TrackTree[];
  mute: Mute[];
}

export interface Choice {
  at: number;
  room: string;
  region: string;
  chosen: Chosen;
}

export interface Chosen {
  node: string | null;
  reason: string;
}

export interface Verdict {
  id: string;
  load: { ratio: number; participants: number } | null;
  refused: string | null;
  why?: string;
}

export interface Prospect {
  room: string;
  region: string;
  homes: string[];
  chosen: Chosen;
  nodes: Verdict[];
}

export interface RoomsAnswer {
  rooms: RoomSummary[];
  next: number | null;
}

/** One of the lists that an answer is made of; `undefined`: it has none. */
export function listIn(answer: unknown, name: string): unknown[] | undefined {
  if (typeof answer !== 'object' || answer === null) return undefined;
  const list = (answer as Record<string, unknown>)[name];
  return Array.isArray(list) ? (list as unknown[]) : undefined;
}
