// A mesh of several processes that can be broken: nodes, two signaling processes behind one address, a
// Redis and a Consul of its own, all on loopback.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { Mesh, accepts } from './mesh';
import { freePorts } from './ports';
import { Process, built } from './process';
import { until } from './wait';

const HOST = '127.0.0.1';
const REGION = 'here';
const NODES_UP = 'pipemesh_signal_nodes_up';
const RING_MEMBERS = 'pipemesh_ring_members';

/** People a second: pages that join anew at once only wait for each other on a small machine. */
const DRAIN_RATE = 1;

/** A node to be started. */
export interface NodeSpec {
  id: string;
  region?: string;
  /** People whom it takes at most. */
  limit?: number;
}

/** For every single wait: a machine that does many things at once. */
const PATIENCE = 30_000;
/** For every single answer: who is frozen gives none. */
const ANSWER_WITHIN = 2000;

const at = (port: number | undefined) => `${HOST}:${port}`;

interface Node {
  process: Process;
  operator: string;
}

interface Signaling extends Node {
  admin: string;
}

/** What the admin API says of a room. */
interface Room {
  homes: [string, ...string[]];
  members: { identity: string; node: string; process: string }[];
}

type Start = (binary: string, flags: string[], name?: string) => Process;

interface Parts {
  folder: string;
  consul: Server;
  redis: Server;
  nodes: Map<string, Node>;
  signaling: [Signaling, Signaling];
  balance: Process;
}

/** Redis or Consul. */
export interface Server {
  process: Process;
  /** Whether it answers. */
  up: () => Promise<boolean>;
}

export class Cluster extends Mesh {
  private constructor(
    private readonly parts: Parts,
    url: string,
  ) {
    const { consul, redis, nodes, signaling, balance } = parts;
    const members = [...signaling, ...nodes.values()].map(({ process }) => process);
    super([balance, ...members, redis.process, consul.process], url);
  }

  /** Ready for people. */
  static async form(specs: NodeSpec[] = [{ id: 'node-a' }, { id: 'node-b' }]): Promise<Cluster> {
    const folder = mkdtempSync(join(tmpdir(), 'pipemesh-cluster-'));
    const started: Process[] = [];
    const start = (binary: string, flags: string[], name?: string) => {
      const process = Process.start(binary, flags, name);
      started.push(process);
      return process;
    };
    try {
      const [consul, redis] = [await startConsul(start, folder), await startRedis(start, folder)];
      const nodes = new Map<string, Node>();
      for (const spec of specs) nodes.set(spec.id, await startNode(start, spec, consul.address));
      const first = await startSignaling(start, 'signaling-1', consul.address, redis.urlFile);
      const second = await startSignaling(start, 'signaling-2', consul.address, redis.urlFile);
      const [port] = await freePorts(1);
      const balance = start(built('pipemesh-balance'), [at(port), first.clients, second.clients]);
      const parts = { folder, consul: consul.server, redis: redis.server, nodes, signaling: [first, second] as [Signaling, Signaling], balance };
      const cluster = new Cluster(parts, `http://${at(port)}/`);
      await cluster.ready();
      return cluster;
    } catch (error) {
      await Promise.allSettled(started.map((process) => process.kill()));
      rmSync(folder, { recursive: true, force: true });
      throw error;
    }
  }

  get redis(): Server {
    return this.parts.redis;
  }

  get consul(): Server {
    return this.parts.consul;
  }

  /** Where operators ask, and see the mesh; without a slash at its end. */
  get adminUrl(): string {
    return `http://${this.parts.signaling[0].admin}`;
  }

  node(id: string): Process {
    const node = this.parts.nodes.get(id);
    if (!node) throw new Error(`there is no ${id}`);
    return node.process;
  }

  /** The signaling process that has most of these people. */
  async busiest(): Promise<Process> {
    const counts = await Promise.all(this.parts.signaling.map((it) => metric(it, 'pipemesh_signal_sessions')));
    const [first = 0, second = 0] = counts.map((count) => count ?? 0);
    if (first + second === 0) throw new Error('nobody is in any room');
    return this.parts.signaling[first >= second ? 0 : 1].process;
  }

  /** Waits until all of it works together. */
  async ready(): Promise<void> {
    let missing: string[] = [];
    const isReady = async () => {
      for (const process of this.processes) process.expectRunning();
      missing = await this.missing();
      return missing.length === 0;
    };
    try {
      await until(PATIENCE, 'the mesh to be ready', isReady, () => missing);
    } catch (error) {
      const logs = this.processes.map(({ name, log }) => `--- ${name}\n${log.slice(-100).join('\n')}`);
      throw new Error(`${error instanceof Error ? error.message : String(error)}\n${logs.join('\n')}`);
    }
  }

  /** What keeps it from being ready. */
  private async missing(): Promise<string[]> {
    const { nodes, signaling } = this.parts;
    const reasons: string[] = [];
    for (const one of [...nodes.values(), ...signaling]) {
      const { ok, text } = await ask(`http://${one.operator}/readyz`);
      if (!ok) reasons.push(`${one.process.name}: ${text.trim()}`);
    }
    for (const one of signaling) {
      const up = await metric(one, NODES_UP);
      const onRing = await metric(one, RING_MEMBERS);
      if (onRing !== nodes.size) reasons.push(`${one.process.name}: ${RING_MEMBERS} is ${onRing}, not ${nodes.size}`);
      if (up !== nodes.size) reasons.push(`${one.process.name}: ${NODES_UP} is ${up}, not ${nodes.size}`);
    }
    const { ok, text } = await ask(this.url);
    if (!ok) reasons.push(`${this.parts.balance.name}: ${text.slice(0, 200)}`);
    return reasons;
  }

  /** Waits until a metric of all signaling processes is so. */
  async all(name: string, value: number): Promise<void> {
    for (const one of this.parts.signaling) {
      await until(PATIENCE, `${name} to be ${value}`, async () => (await metric(one, name)) === value);
    }
  }

  async room(name: string): Promise<Room> {
    const answer = await fetch(`http://${this.parts.signaling[0].admin}/rooms/${name}`);
    if (!answer.ok) throw new Error(`no room: ${answer.status}`);
    return (await answer.json()) as Room;
  }

  /** The sum of a node's metric over all of its labels, or over those with this text. */
  async nodeMetric(id: string, name: string, label = ''): Promise<number> {
    const node = this.parts.nodes.get(id);
    const { text } = await ask(`http://${node?.operator}/metrics`);
    const lines = text.split('\n').filter((line) => line.startsWith(`${name}{`) && line.includes(label));
    return lines.reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0);
  }

  async drain(node: string): Promise<void> {
    const answer = await fetch(`http://${this.parts.signaling[0].admin}/nodes/${node}/drain`, { method: 'POST' });
    if (!answer.ok) throw new Error(`${node} does not drain: ${answer.status}`);
  }

  /** All at once: how each of them ends is tested elsewhere. */
  override async stop(): Promise<void> {
    const outcomes = await Promise.allSettled(this.processes.map((process) => process.end()));
    rmSync(this.parts.folder, { recursive: true, force: true });
    const failed = outcomes.find((outcome) => outcome.status === 'rejected');
    if (failed) throw failed.reason as Error;
  }
}

/** It keeps nothing: killed, it has forgotten everybody. */
async function startConsul(start: Start, folder: string): Promise<{ server: Server; address: string }> {
  const [http, server, serf] = await freePorts(3);
  const file = join(folder, 'consul.json');
  const ports = { http, server, serf_lan: serf, serf_wan: -1, dns: -1, grpc: -1 };
  const settings = { bind_addr: HOST, disable_update_check: true, log_level: 'warn', performance: { raft_multiplier: 1 }, ports };
  writeFileSync(file, JSON.stringify(settings));
  const process = start('consul', ['agent', '-dev', '-config-file', file]);
  const leader = () => fetch(`http://${at(http)}/v1/status/leader`).then((answer) => answer.text(), () => '');
  const up = async () => (await leader()).includes(':');
  await process.ready(until(PATIENCE, 'Consul to have a leader', up));
  return { server: { process, up }, address: at(http) };
}

/** It keeps nothing: killed, it has forgotten every room. */
async function startRedis(start: Start, folder: string): Promise<{ server: Server; urlFile: string }> {
  const [port = 0] = await freePorts(1);
  const urlFile = join(folder, 'redis-url');
  writeFileSync(urlFile, `redis://${at(port)}`, { mode: 0o600 });
  const process = start('redis-server', [
    ...['--port', `${port}`, '--bind', HOST, '--appendonly', 'no', '--save', '', '--dir', folder],
  ]);
  const up = () => accepts(HOST, port);
  await process.ready(until(PATIENCE, 'Redis to answer', up));
  return { server: { process, up }, urlFile };
}

async function startNode(start: Start, { id, region = REGION, limit }: NodeSpec, consul: string): Promise<Node> {
  const [media, control, operator] = await freePorts(3);
  const flags = [
    ...['--mesh-node-id', id, '--mesh-region', region, '--consul-address', consul, '--control-listen', at(control)],
    ...['--media-bind', HOST, '--media-port', `${media}`, '--media-tcp-port', 'off', '--media-shards', '1'],
    ...['--operator-listen', at(operator)],
    ...(limit === undefined ? [] : ['--session-limit', `${limit}`]),
  ];
  return { process: start(built('pipemesh-node'), flags, id), operator: at(operator) };
}

async function startSignaling(start: Start, name: string, consul: string, redisUrlFile: string): Promise<Signaling & { clients: string }> {
  const [clients, operator, admin] = await freePorts(3);
  const flags = [
    ...['--mesh-region', REGION, '--auth-demo', '--consul-address', consul, '--redis-url-file', redisUrlFile],
    ...['--http-listen', at(clients), '--operator-listen', at(operator), '--admin-listen', at(admin)],
    ...['--drain-rate', `${DRAIN_RATE}`],
  ];
  const process = start(built('pipemesh-signaling'), flags, name);
  return { process, clients: at(clients), operator: at(operator), admin: at(admin) };
}

async function metric({ operator }: Signaling, name: string): Promise<number | undefined> {
  const { text } = await ask(`http://${operator}/metrics`);
  const line = text.split('\n').find((it) => it.startsWith(`${name} `) || it.startsWith(`${name}{`));
  return line === undefined ? undefined : Number(line.split(' ').at(-1));
}

/** What is answered, or why nothing is. */
async function ask(url: string): Promise<{ ok: boolean; text: string }> {
  try {
    const answer = await fetch(url, { signal: AbortSignal.timeout(ANSWER_WITHIN) });
    return { ok: answer.ok, text: await answer.text() };
  } catch (error) {
    const { cause } = error as Error;
    return { ok: false, text: String(cause ?? error) };
  }
}
