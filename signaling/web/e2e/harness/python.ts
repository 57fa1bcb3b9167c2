// The LiveKit Python SDK as a participant: a child process that speaks JSON lines.

import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { createInterface } from 'node:readline';

import { until, within } from './wait';

const PROGRAM = fileURLToPath(new URL('../python_peer.py', import.meta.url));
const PYTHON = fileURLToPath(new URL('../../../../target/venv/bin/python', import.meta.url));

/** What the program says; the counters are those of the whole time so far. */
export interface Report {
  event: string;
  identity?: string;
  frames?: Record<string, number>;
  samples?: Record<string, number>;
  loudest?: Record<string, number>;
  from?: string;
  topic?: string;
  text?: string;
  length?: number;
  participants?: string[];
}

export class PythonPeer {
  private readonly reports: Report[] = [];
  private readonly errors: string[] = [];

  private constructor(private readonly child: ChildProcessWithoutNullStreams) {
    createInterface({ input: child.stdout }).on('line', (line) => this.reports.push(JSON.parse(line) as Report));
    createInterface({ input: child.stderr }).on('line', (line) => this.errors.push(line));
  }

  static async join(url: string, token: string): Promise<PythonPeer> {
    if (!existsSync(PYTHON)) throw new Error(`${PYTHON} is missing; deploy/scripts/install makes it`);
    const peer = new PythonPeer(spawn(PYTHON, ['-u', PROGRAM, url, token]));
    await peer.hasReported('to be connected', ({ event }) => event === 'connected');
    return peer;
  }

  send(command: object): void {
    this.child.stdin.write(`${JSON.stringify(command)}\n`);
  }

  async hasReported(what: string, which: (report: Report) => boolean): Promise<Report> {
    return until(
      30_000,
      `the Python SDK ${what}`,
      () => {
        if (this.child.exitCode !== null) throw new Error(`it ended:\n${this.errors.join('\n')}`);
        return Promise.resolve(this.reports.findLast(which));
      },
      () => ({ reports: this.reports.slice(-5), errors: this.errors.slice(-20) }),
    );
  }

  async leave(): Promise<void> {
    if (this.child.exitCode !== null) return;
    const exited = once(this.child, 'exit');
    this.send({ do: 'leave' });
    await within(10_000, 'the Python SDK to end', exited).catch(() => this.child.kill('SIGKILL'));
  }
}
