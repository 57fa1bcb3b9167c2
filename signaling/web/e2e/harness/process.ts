// A program of ours: started with nothing but its flags, its log kept, ended by its process id.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { basename } from 'node:path';
import { createInterface } from 'node:readline';

import { within } from './wait';

const ROOT = fileURLToPath(new URL('../../../../', import.meta.url));

/** A line that none of them writes while all is well. */
const FAULT = /\bERROR\b|"level":"ERROR"|panicked at/;

/** Lines of its log that are kept for a failure's report. */
const LOG_LINES = 2000;

/** Where cargo leaves a program that it builds for tests. */
export function built(name: string): string {
  return `${ROOT}target/debug/${name}`;
}

export class Process {
  /** The newest lines last. */
  readonly log: string[] = [];
  /** Lines that tell of a fault, however long ago. */
  private readonly faults: string[] = [];

  private running: ChildProcess;

  private constructor(
    private readonly binary: string,
    private readonly flags: string[],
    /** What it is called in reports. */
    readonly name: string,
  ) {
    this.running = this.spawn();
  }

  static start(binary: string, flags: string[], name = basename(binary)): Process {
    return new Process(binary, flags, name);
  }

  private spawn(): ChildProcess {
    const child = spawn(this.binary, this.flags, { stdio: ['ignore', 'pipe', 'pipe'], env: environment() });
    const { log, faults } = this;
    const note = (line: string) => {
      log.push(line);
      if (FAULT.test(line) && faults.length < LOG_LINES) faults.push(line);
      if (log.length > LOG_LINES) log.shift();
    };
    // Redis and Consul write to standard output.
    for (const input of [child.stdout, child.stderr]) createInterface({ input }).on('line', note);
    child.on('error', (error) => {
      note(String(error));
    });
    return child;
  }

  get child(): ChildProcess {
    return this.running;
  }

  /** Or it could not be started. */
  private get isGone(): boolean {
    const { exitCode, signalCode, pid } = this.child;
    return exitCode !== null || signalCode !== null || pid === undefined;
  }

  get pid(): number {
    return this.child.pid ?? 0;
  }

  /** What `ready` answers, which gives up by itself; if that fails or the program ends first, the program is killed and its log told. */
  async ready<T>(ready: Promise<T>): Promise<T> {
    const failed = once(this.child, 'error').then(([error]) => Promise.reject(error as Error));
    // By 'close' its log has been read to the end.
    const ended = once(this.child, 'close').then(() => {
      this.expectRunning();
    });
    try {
      return (await Promise.race([ready, failed, ended])) as T;
    } catch (error) {
      this.child.kill('SIGKILL');
      throw new Error(`${this.name}: ${String(error)}\n${this.log.join('\n')}`);
    }
  }

  /** Fails if it has ended, with its last words in the first line. */
  expectRunning(): void {
    if (!this.isGone) return;
    const { exitCode, signalCode } = this.child;
    const how = `${this.name} ended by itself with ${exitCode ?? signalCode ?? 'nothing'}`;
    throw new Error(`${how}: ${this.log.at(-1) ?? 'without a word'}\n${this.log.slice(-40).join('\n')}`);
  }

  /** As if the power went. */
  async kill(): Promise<void> {
    if (this.isGone) return;
    const closed = once(this.child, 'close');
    this.child.kill('SIGKILL');
    await within(10_000, `${this.name} to be gone`, closed);
  }

  /** It is there, and does nothing. */
  freeze(): void {
    this.child.kill('SIGSTOP');
  }

  /** As it was started before. */
  startAgain(): void {
    this.running = this.spawn();
  }

  /** Kills it, and fails if it has panicked. */
  async end(): Promise<void> {
    await this.kill();
    const panics = this.faults.filter((line) => line.includes('panicked at'));
    if (panics.length > 0) throw new Error(`${this.name} has panicked:\n${panics.join('\n')}`);
  }

  async stop(): Promise<void> {
    this.expectRunning();
    // Not 'exit': by 'close' its log has been read to the end.
    const closed = once(this.child, 'close');
    this.child.kill('SIGTERM');
    const ended = await within(15_000, `${this.name} to end`, closed).catch((error: unknown) => {
      this.child.kill('SIGKILL');
      throw error;
    });
    const [code, signal] = ended as [number | null, string | null];
    if (code !== 0) {
      throw new Error(`${this.name} ended with ${code ?? signal ?? 'nothing'}:\n${this.log.slice(-40).join('\n')}`);
    }
    if (this.faults.length > 0) throw new Error(`the log of ${this.name} tells of a fault:\n${this.faults.join('\n')}`);
  }
}

/** Ours would configure the program, so only what says how much it logs goes along. */
function environment(): NodeJS.ProcessEnv {
  const entries = Object.entries(process.env);
  return Object.fromEntries(
    entries.filter(([name]) => !name.startsWith('PIPEMESH_') || name.startsWith('PIPEMESH_LOG')),
  );
}
