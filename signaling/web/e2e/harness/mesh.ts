// One mesh of our own: the real binary on free ports, ended by its process id.
//
// Expected of the binary: with `--http-listen 127.0.0.1:0` it prints `ready: http://127.0.0.1:<port>/`
// on standard output once it serves, and ends on SIGTERM.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, readdirSync, readlinkSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { createInterface } from 'node:readline';

import { within } from './wait';

const ROOT = fileURLToPath(new URL('../../../../', import.meta.url));

/** A line that no mesh writes in which all is well. */
const FAULT = /\bERROR\b|"level":"ERROR"|panicked at/;

/** Lines of its log that are kept for a failure's report. */
const LOG_LINES = 2000;

export class Mesh {
  private constructor(
    private readonly child: ChildProcess,
    /** Ends with a slash. */
    readonly url: string,
    /** The newest lines last. */
    readonly log: string[],
    /** Lines that tell of a fault, however long ago. */
    private readonly faults: string[],
  ) {}

  static async start(flags: string[] = []): Promise<Mesh> {
    const binary = process.env.PIPEMESH_DEV_BIN ?? `${ROOT}target/debug/pipemesh-dev`;
    const child = spawn(binary, ['--http-listen', '127.0.0.1:0', '--operator-listen', '127.0.0.1:0', '--media-port', '0', ...flags], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: environment(),
    });
    const log: string[] = [];
    const faults: string[] = [];
    createInterface({ input: child.stderr }).on('line', (line) => {
      log.push(line);
      if (FAULT.test(line) && faults.length < LOG_LINES) faults.push(line);
      if (log.length > LOG_LINES) log.shift();
    });
    try {
      const failed = once(child, 'error').then(([error]) => Promise.reject(error as Error));
      const url = await within(30_000, 'the mesh to be ready', Promise.race([readyUrl(child), failed]));
      return new Mesh(child, url, log, faults);
    } catch (error) {
      child.kill('SIGKILL');
      throw new Error(`${binary}: ${String(error)}\n${log.join('\n')}`);
    }
  }

  get origin(): string {
    return new URL(this.url).origin;
  }

  get webSocketUrl(): string {
    return this.origin.replace(/^http/, 'ws');
  }

  async token(room: string, identity: string, name = identity): Promise<string> {
    const url = new URL('/demo/token', this.url);
    for (const [key, value] of Object.entries({ room, identity, name })) url.searchParams.set(key, value);
    const answer = await fetch(url);
    if (!answer.ok) throw new Error(`no token: ${answer.status} ${await answer.text()}`);
    const { token } = (await answer.json()) as { token: string };
    return token;
  }

  /** UDP ports of the process on this address, as the kernel knows them. */
  udpPorts(address: string): number[] {
    const pid = this.child.pid ?? 0;
    const inodes = new Set<string>();
    for (const fd of readdirSync(`/proc/${pid}/fd`)) {
      const target = link(`/proc/${pid}/fd/${fd}`);
      const inode = /^socket:\[(\d+)\]$/.exec(target)?.[1];
      if (inode) inodes.add(inode);
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
    if (this.child.exitCode !== null || this.child.signalCode !== null) {
      throw new Error(`the mesh ended by itself:\n${this.log.slice(-40).join('\n')}`);
    }
    // Not 'exit': by 'close' its log has been read to the end.
    const closed = once(this.child, 'close');
    this.child.kill('SIGTERM');
    const ended = await within(15_000, 'the mesh to end', closed).catch((error: unknown) => {
      this.child.kill('SIGKILL');
      throw error;
    });
    const [code, signal] = ended as [number | null, string | null];
    if (code !== 0) {
      throw new Error(`the mesh ended with ${code ?? signal ?? 'nothing'}:\n${this.log.slice(-40).join('\n')}`);
    }
    if (this.faults.length > 0) throw new Error(`the mesh's log tells of a fault:\n${this.faults.join('\n')}`);
  }
}

async function readyUrl(child: ChildProcess): Promise<string> {
  if (!child.stdout) throw new Error('the mesh has no standard output');
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

/** Ours would configure the mesh, so only what says how much it logs goes along. */
function environment(): NodeJS.ProcessEnv {
  const entries = Object.entries(process.env);
  return Object.fromEntries(
    entries.filter(([name]) => !name.startsWith('PIPEMESH_') || name.startsWith('PIPEMESH_LOG')),
  );
}

function link(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return '';
  }
}
