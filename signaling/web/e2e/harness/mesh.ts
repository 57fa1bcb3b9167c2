// One mesh of our own: real binaries on free ports.
//
// Expected of `pipemesh-dev`: with `--http-listen 127.0.0.1:0` it prints `ready: http://127.0.0.1:<port>/`
// on standard output once it serves. Expected of all: they end on SIGTERM.

import { readFileSync, readdirSync, readlinkSync } from 'node:fs';
import { connect } from 'node:net';
import { createInterface } from 'node:readline';

import { AccessToken } from 'livekit-server-sdk';

import { freePorts } from './ports';
import { Process, built } from './process';
import { until, within } from './wait';

/** Of the demo. */
const KEY = ['devkey', 'secret'] as const;

export class Mesh {
  /** Where people are put, by identity; others go where this machine is. */
  readonly regions = new Map<string, string>();

  protected constructor(
    /** In the order in which they end. */
    protected readonly processes: Process[],
    /** Ends with a slash. */
    readonly url: string,
  ) {}

  /** Everything in one process. */
  static async start(flags: string[] = []): Promise<Mesh> {
    const binary = process.env.PIPEMESH_DEV_BIN ?? built('pipemesh-dev');
    const all = Process.start(binary, ['--http-listen', '127.0.0.1:0', '--operator-listen', '127.0.0.1:0', '--media-port', '0', ...flags]);
    return new Mesh([all], await all.ready(within(30_000, 'its address', readyUrl(all))));
  }

  /** A node and a signaling process, each on its own as in production, the latter with these flags. */
  static async startApart(flags: string[]): Promise<Mesh> {
    const [control, media, http, operator] = await freePorts(4);
    const local = (port: number | undefined) => `127.0.0.1:${port}`;
    const node = Process.start(built('pipemesh-node'), [
      ...['--mesh-node-id', 'node-a', '--mesh-region', 'here', '--control-listen', local(control)],
      ...['--media-bind', '127.0.0.1', '--media-port', `${media}`, '--media-tcp-port', 'off', '--operator-listen', '127.0.0.1:0'],
    ]);
    const signaling = Process.start(built('pipemesh-signaling'), [
      ...['--mesh-nodes', `node-a/here/${local(control)}`, '--mesh-region', 'here', '--auth-demo'],
      ...['--http-listen', local(http), '--operator-listen', local(operator), ...flags],
    ]);
    const answers = until(30_000, 'signaling to be ready', () =>
      fetch(`http://${local(operator)}/readyz`).then((answer) => answer.ok, () => false),
    );
    await signaling.ready(node.ready(answers));
    return new Mesh([signaling, node], `http://${local(http)}/`);
  }

  get log(): string[] {
    return this.processes.flatMap(({ log }) => log);
  }

  /** What its programs tell Prometheus, for a failure's report. */
  async metrics(): Promise<string> {
    const addresses = this.log.flatMap((line) => /listening for the operator address=(\S+)/.exec(line)?.[1] ?? []);
    // Some may be dead, or silent.
    const answers = addresses.map((address) => fetch(`http://${address}/metrics`, { signal: AbortSignal.timeout(2000) }).then((it) => it.text(), () => ''));
    return (await Promise.all(answers)).join('\n');
  }

  get origin(): string {
    return new URL(this.url).origin;
  }

  get webSocketUrl(): string {
    return this.origin.replace(/^http/, 'ws');
  }

  async token(room: string, identity: string, name = identity): Promise<string> {
    const region = this.regions.get(identity);
    if (region) {
      const token = new AccessToken(...KEY, { identity, name, attributes: { 'pipemesh.region': region } });
      token.addGrant({ roomJoin: true, room });
      return token.toJwt();
    }
    const url = new URL('/demo/token', this.url);
    for (const [key, value] of Object.entries({ room, identity, name })) url.searchParams.set(key, value);
    const answer = await fetch(url);
    if (!answer.ok) throw new Error(`no token: ${answer.status} ${await answer.text()}`);
    const { token } = (await answer.json()) as { token: string };
    return token;
  }

  /** Its UDP ports on this address, as the kernel knows them. */
  udpPorts(address: string): number[] {
    const inodes = new Set<string>();
    for (const { pid } of this.processes) {
      for (const fd of readdirSync(`/proc/${pid}/fd`)) {
        const target = link(`/proc/${pid}/fd/${fd}`);
        const inode = /^socket:\[(\d+)\]$/.exec(target)?.[1];
        if (inode) inodes.add(inode);
      }
    }
    const host = address.split('.').reverse().map((part) => Number(part).toString(16).padStart(2, '0')).join('').toUpperCase();
    const sockets = readFileSync('/proc/net/udp', 'utf8').trim().split('\n').slice(1);
    const ports = sockets.flatMap((line) => {
      const fields = line.trim().split(/\s+/);
      const [ip, port] = (fields[1] ?? '').split(':');
      return ip === host && inodes.has(fields[9] ?? '') ? [parseInt(port ?? '', 16)] : [];
    });
    return [...new Set(ports)];
  }

  async stop(): Promise<void> {
    const outcomes = [];
    for (const process of this.processes) outcomes.push(...(await Promise.allSettled([process.stop()])));
    const failed = outcomes.find((outcome) => outcome.status === 'rejected');
    if (failed) throw failed.reason as Error;
  }
}

async function readyUrl({ child }: Process): Promise<string> {
  if (!child.stdout) throw new Error('it has no standard output');
  const lines = createInterface({ input: child.stdout });
  for await (const line of lines) {
    const url = /^ready: (http:\/\/\S+\/)$/.exec(line)?.[1];
    if (url) {
      child.stdout.resume();
      return url;
    }
  }
  throw new Error('it ended before it was ready');
}

/** Whether somebody listens there. */
export function accepts(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, host);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => {
      resolve(false);
    });
  });
}

function link(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return '';
  }
}
