// Answers of an admin API whose mesh is not there: of any size, the same at each run.

import type { BrowserContext } from '@playwright/test';

import type { Branch, MemberAnswer, NodeAnswer, OneWay, PipeAnswer, RoomAnswer, TrackTree } from '../../src/mesh/answers';

export interface SyntheticMesh {
  nodes: NodeAnswer[];
  pipes: PipeAnswer[];
  rooms: RoomAnswer[];
  tracks: TrackTree[];
}

const RELEASE = '0.1.0';

function node(id: string, region: string, load: number, people: number, change: Partial<NodeAnswer> = {}): NodeAnswer {
  const state = change.registered ?? 'serving';
  return {
    ...{ id, region, address: `${id}.example:7902`, weight: 100, registered: 'serving', reach: 'up', assigned: 0 },
    report: {
      ...{ state, release: RELEASE, load, busy: load / 2, sessions: people, rooms: Math.ceil(people / 6), tracks: people * 2, subscriptions: people * 9 },
      ...{ egress_bits_per_second: people * 4.1e6, egress_packets_per_second: people * 460 },
    },
    ...change,
  };
}

const DOWN = { reach: 'down', report: null, assigned: null } as const;

function way(megabits: number, tracks: number, loss: number, ms: number): OneWay {
  return { one_way_ms: ms, loss, bits_per_second: Math.round(megabits * 1e6), tracks };
}

function pipe(ends: [NodeAnswer, NodeAnswer], ms: number, megabits: number, loss = 0, change: Partial<PipeAnswer> = {}): PipeAnswer {
  const [one, other] = ends;
  const tracks = Math.max(1, Math.round(megabits / 1.4));
  return {
    nodes: [one.id, other.id],
    regions: [one.region, other.region],
    ...{ state: 'up', rtt_ms: ms, connections: 1, there: way(megabits * 0.6, tracks, loss, ms / 2), back: way(megabits * 0.4, tracks, 0, ms / 2) },
    ...change,
  };
}

function branch(at: NodeAnswer, role: string, watchers: number | null, branches: Branch[] = [], ms: number | null = null): Branch {
  const leg = ms === null ? {} : { pipe: 'up' as const, rtt_ms: ms, one_way_ms: ms / 2, loss: 0.001 };
  return { node: at.id, region: at.region, role, watchers, branches, ...leg };
}

function member(identity: string, at: NodeAnswer, by: string, reason: string, tracks: string[]): MemberAnswer {
  return { identity, id: `PA_${identity}`, node: at.id, process: 'signaling-1', presence: 'here', tracks, placed: { by, reason } };
}

export function threeNodes(): SyntheticMesh {
  const [a, b, c] = [node('node-a', 'eu-west', 0.34, 42), node('node-b', 'eu-west', 0.71, 88), node('node-c', 'us-east', 0.12, 15)];
  return {
    nodes: [a, b, c],
    pipes: [pipe([a, b], 0.4, 12), pipe([a, c], 81, 31, 0.002), pipe([b, c], 80, 6, 0.021)],
    ...roomOn([a, b, c]),
  };
}

function roomOn([a, b, c]: [NodeAnswer, NodeAnswer, NodeAnswer], far: NodeAnswer[] = []): Pick<SyntheticMesh, 'rooms' | 'tracks'> {
  const tree = (origin: NodeAnswer, own: number, takers: Branch[]) => branch(origin, 'origin', own, takers);
  const ada = tree(a, 3, [branch(b, 'leaf', 4, [], 0.4), branch(c, 'gateway', 2, far.map((it) => branch(it, 'leaf', 3, [], 0.6)), 81)]);
  const ben = tree(c, 2, [branch(a, 'gateway', 4, [branch(b, 'leaf', 4, [], 0.4)], 81)]);
  const track = (id: string, publisher: string, kind: string, source: string, at: Branch): TrackTree => ({
    ...{ track: id, name: '', kind, source, publisher, watchers: 9, tree: at, detached: [] },
  });
  const members = [
    ...[member('ada', a, 'measured', 'ring', ['TR_1', 'TR_2']), member('ben', c, 'asked', 'ring', ['TR_3']), member('cleo', b, 'address', 'overflow', [])],
    ...[member('dana', a, 'token', 'sticky', []), member('eli', c, 'own', 'region', []), member('fay-with-a-rather-long-identity-of-hers', b, 'proxy', 'sticky', [])],
  ];
  const summary = { name: 'town-hall', id: 'RM_1', homes: [a.id, b.id, c.id], sequence: 77, participants: members.length };
  const small = (name: string, participants: number): RoomAnswer => ({ name, id: `RM_${name}`, homes: [a.id], sequence: 3, participants, members: [] });
  return {
    rooms: [{ ...summary, members }, small('standup', 4), small('design-review', 3), small('one-to-one', 2)],
    tracks: [
      track('TR_1', 'ada', 'video', 'camera', ada),
      track('TR_2', 'ada', 'audio', 'microphone', ada),
      track('TR_3', 'ben', 'video', 'screen_share', ben),
    ],
  };
}

const REGIONS = [
  ['ap-south', 8],
  ['ap-tokyo', 10],
  ['eu-central', 14],
  ['eu-west', 12],
  ['us-east', 10],
  ['us-west', 6],
] as const;

/** Sixty nodes in six regions, some of which are not well. */
export function sixtyNodes(): SyntheticMesh {
  const random = numbers(7);
  const byRegion = REGIONS.map(([region, count]) =>
    Array.from({ length: count }, (_, index) => {
      const people = Math.floor(random() * 260);
      return node(`${region}-${index + 1}`, region, Math.min(0.99, people / 280 + random() * 0.08), people);
    }),
  );
  const nodes = byRegion.flat();
  const change = (id: string, it: Partial<NodeAnswer>) => {
    const found = nodes.find((node) => node.id === id);
    if (!found) throw new Error(`there is no ${id}`);
    Object.assign(found, it);
  };
  change('eu-west-4', DOWN);
  change('us-east-7', { registered: 'draining' });
  change('ap-tokyo-3', { registered: 'draining' });
  change('eu-central-9', { registered: 'full' });
  change('us-west-2', { reach: 'trying', report: null, assigned: null });
  const pipes: PipeAnswer[] = [];
  byRegion.forEach((members, index) => {
    const [first, second] = members;
    if (!first || !second) throw new Error('each region has two nodes');
    for (const other of members.slice(2)) {
      pipes.push(pipe([random() < 0.5 ? first : second, other], 0.3 + random(), random() ** 3 * 90));
    }
    for (const others of byRegion.slice(index + 1)) {
      const [gateway, next] = others;
      if (!gateway || !next) throw new Error('each region has two nodes');
      pipes.push(pipe([first, gateway], 20 + random() * 180, 4 + random() ** 2 * 300, random() < 0.2 ? 0.02 : 0));
      pipes.push(pipe([second, next], 20 + random() * 180, random() ** 2 * 60, random() < 0.1 ? 0.08 : 0));
    }
  });
  const dead = pipes.find(({ nodes: ends }) => ends.includes('eu-west-4'));
  if (dead) Object.assign(dead, { state: 'down', rtt_ms: null });
  const at = (region: number, index: number) => {
    const found = byRegion[region]?.[index];
    if (!found) throw new Error(`there is no node ${index} of region ${region}`);
    return found;
  };
  return { nodes, pipes, ...roomOn([at(3, 0), at(3, 1), at(4, 0)], byRegion[4]?.slice(1, 6)) };
}

/** The same ones each time. */
function numbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 1_103_515_245 + 12_345) % 2_147_483_648;
    return state / 2_147_483_648;
  };
}

/** Pages of this context see this mesh. */
export async function show(context: BrowserContext, mesh: SyntheticMesh): Promise<void> {
  const answer = (path: string, body: unknown) => context.route((url) => url.pathname === path, (route) => route.fulfill({ json: body }));
  await answer('/nodes', { nodes: mesh.nodes });
  await answer('/pipes', { pipes: mesh.pipes, mute: [] });
  await answer('/rooms', { rooms: mesh.rooms, next: null });
  const chosen = { node: mesh.nodes[0]?.id ?? null, reason: 'sticky' };
  const [refused, ...others] = mesh.nodes;
  await answer('/placements', {
    recent: [
      { at: Date.now() / 1000 - 4, room: 'town-hall', region: 'eu-west', chosen },
      { at: Date.now() / 1000 - 65, room: 'standup', region: 'us-east', chosen: { node: mesh.nodes[1]?.id ?? null, reason: 'overflow' } },
    ],
    ...{ room: 'town-hall', region: 'eu-west', homes: [], chosen },
    nodes: [
      { id: refused?.id, load: null, refused: 'overloaded', why: 'has a load of 0.71' },
      ...others.map(({ id, report }) => ({ id, load: { ratio: report?.load ?? 0, participants: report?.sessions ?? 0 }, refused: null })),
    ],
  });
  for (const room of mesh.rooms) {
    await answer(`/rooms/${room.name}`, room);
    await answer(`/rooms/${room.name}/tree`, { tracks: room.name === 'town-hall' ? mesh.tracks : [], mute: [] });
  }
}
