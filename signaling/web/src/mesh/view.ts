// What the page shows of the answers: one state for each node, one health for each pipe. Pure.

import type { NodeAnswer, PipeAnswer } from './answers';

export type NodeState = 'serving' | 'full' | 'draining' | 'trying' | 'down' | 'gone';

export interface NodeView {
  id: string;
  region: string;
  state: NodeState;
  address: string;
  weight: number;
  /** 0 to 1. What a node does not say, or said too long ago, is `null`. */
  load: number | null;
  people: number | null;
  rooms: number | null;
  tracks: number | null;
  subscriptions: number | null;
  bitsPerSecond: number | null;
  release: string | null;
  /** Whether it was told to drain. */
  isDraining: boolean;
  /** When it was first not in the registry any more. */
  goneAt: number | null;
}

/** For so long a node is shown that is not in the registry any more: who looks away for a moment sees it. */
export const GONE_FOR_MS = 60_000;

/** Nodes as they stand, with those of before that have gone. */
export function viewNodes(answers: NodeAnswer[], before: NodeView[], now: number): NodeView[] {
  const views = answers.map(viewNode);
  const known = new Set(views.map(({ id }) => id));
  for (const old of before) {
    const goneAt = old.goneAt ?? now;
    if (known.has(old.id) || now - goneAt >= GONE_FOR_MS) continue;
    const silence = { load: null, people: null, rooms: null, tracks: null, subscriptions: null, bitsPerSecond: null };
    views.push({ ...old, ...silence, state: 'gone', goneAt });
  }
  return views.sort((one, other) => compare(one.region, other.region) || compare(one.id, other.id));
}

function viewNode(answer: NodeAnswer): NodeView {
  const { id, region, address, weight, report } = answer;
  return {
    id,
    region,
    address,
    weight,
    state: stateOf(answer),
    load: report?.load ?? null,
    people: report ? report.sessions + (answer.assigned ?? 0) : null,
    rooms: report?.rooms ?? null,
    tracks: report?.tracks ?? null,
    subscriptions: report?.subscriptions ?? null,
    bitsPerSecond: report?.egress_bits_per_second ?? null,
    release: report?.release ?? null,
    isDraining: answer.registered === 'draining' || report?.state === 'draining',
    goneAt: null,
  };
}

/** The worse of what the registry says, what the node says, and whether it can be reached. */
function stateOf({ reach, registered, report }: NodeAnswer): NodeState {
  if (reach === 'down') return 'down';
  if (reach === 'trying') return 'trying';
  const states: string[] = [registered, report?.state ?? 'serving'];
  // A state that we do not know lets nobody new in.
  if (states.some((state) => state === 'draining' || state === 'unknown')) return 'draining';
  return states.includes('full') ? 'full' : 'serving';
}

/** Whether it can be told something, as far as is known. */
export function isAlive(node: NodeView): boolean {
  return node.state !== 'down' && node.state !== 'gone';
}

export type Health = 'good' | 'poor' | 'bad' | 'broken' | 'unknown';

export interface PipeView {
  id: string;
  ends: [string, string];
  regions: [string | null, string | null];
  health: Health;
  state: PipeAnswer['state'];
  rttMs: number | null;
  /** Of the worse way. */
  loss: number | null;
  /** Both ways together. */
  bitsPerSecond: number | null;
  tracks: number | null;
  there: PipeAnswer['there'];
  back: PipeAnswer['back'];
}

/** Loss from which on a pipe is poor, and bad. */
const POOR_LOSS = 0.01;
const BAD_LOSS = 0.05;

export function viewPipes(answers: PipeAnswer[]): PipeView[] {
  return answers.map(viewPipe).sort((one, other) => compare(one.ends[0], other.ends[0]) || compare(one.ends[1], other.ends[1]));
}

function viewPipe({ nodes, regions, state, rtt_ms, there, back }: PipeAnswer): PipeView {
  const loss = known([there.loss, back.loss], Math.max);
  return {
    id: nodes.join(' '),
    ends: nodes,
    regions,
    state,
    health: healthOf(state, loss ?? 0),
    rttMs: rtt_ms,
    loss,
    bitsPerSecond: known([there.bits_per_second, back.bits_per_second], sum),
    tracks: known([there.tracks, back.tracks], sum),
    there,
    back,
  };
}

function healthOf(state: PipeAnswer['state'], loss: number): Health {
  switch (state) {
    case 'down':
      return 'broken';
    case 'silent':
      return 'bad';
    case 'up':
      if (loss >= BAD_LOSS) return 'bad';
      return loss >= POOR_LOSS ? 'poor' : 'good';
    case 'unknown':
      return 'unknown';
  }
}

export interface Totals {
  nodes: number;
  /** How many there are in each state, but those that serve. */
  others: [NodeState, number][];
  regions: number;
  people: number;
  pipes: number;
  ailing: number;
  bitsPerSecond: number;
}

export function totals(nodes: NodeView[], pipes: PipeView[]): Totals {
  const counts = new Map<NodeState, number>();
  for (const { state } of nodes) counts.set(state, (counts.get(state) ?? 0) + 1);
  const registered = nodes.filter(({ state }) => state !== 'gone');
  const worst: NodeState[] = ['down', 'gone', 'draining', 'full', 'trying'];
  return {
    nodes: registered.length,
    others: worst.flatMap((state) => (counts.has(state) ? [[state, counts.get(state) ?? 0] as [NodeState, number]] : [])),
    regions: new Set(registered.map(({ region }) => region)).size,
    people: nodes.reduce((all, { people }) => all + (people ?? 0), 0),
    pipes: pipes.length,
    ailing: pipes.filter(({ health }) => health !== 'good' && health !== 'unknown').length,
    bitsPerSecond: pipes.reduce((all, { bitsPerSecond }) => all + (bitsPerSecond ?? 0), 0),
  };
}

const order = new Intl.Collator('en', { numeric: true });

/** As people sort: node-2 before node-10. */
export function compare(one: string, other: string): number {
  return order.compare(one, other);
}

function known(values: (number | null)[], together: (...values: number[]) => number): number | null {
  const numbers = values.filter((value): value is number => value !== null);
  return numbers.length > 0 ? together(...numbers) : null;
}

function sum(...values: number[]): number {
  return values.reduce((all, value) => all + value, 0);
}

/** What an operator is told of: a node that came, or whose state is another one. */
export interface News {
  id: string;
  state: NodeState;
}

export function newsOf(before: NodeView[], after: NodeView[]): News[] {
  const states = new Map(before.map(({ id, state }) => [id, state]));
  return after.filter(({ id, state }) => states.get(id) !== state).map(({ id, state }) => ({ id, state }));
}
