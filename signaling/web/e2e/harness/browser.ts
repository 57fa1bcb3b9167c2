// One Chromium of our own: exactly the flags we want, a fresh profile, and a process id to kill.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

import { type Browser, chromium } from '@playwright/test';

import { within } from './wait';

const FLAGS = [
  '--headless=new',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--use-fake-device-for-media-stream',
  '--use-fake-ui-for-media-stream',
  '--allow-loopback-in-peer-connection',
];

export class Chromium {
  private constructor(
    readonly browser: Browser,
    private readonly child: ChildProcess,
    private readonly profile: string,
  ) {}

  static async start(extraFlags: string[] = []): Promise<Chromium> {
    const profile = await mkdtemp(join(tmpdir(), 'pipemesh-chromium-'));
    const path = process.env.PIPEMESH_CHROMIUM ?? '/usr/bin/chromium';
    const flags = [...FLAGS, ...extraFlags, '--remote-debugging-port=0', `--user-data-dir=${profile}`];
    const child = spawn(path, [...flags, 'about:blank'], { stdio: ['ignore', 'ignore', 'pipe'] });
    const endpoint = await within(30_000, 'Chromium to listen', debugEndpoint(child));
    const browser = await chromium.connectOverCDP(endpoint);
    return new Chromium(browser, child, profile);
  }

  /** As if the power went: nothing is said to anybody. */
  async kill(): Promise<void> {
    await this.end('SIGKILL');
  }

  async close(): Promise<void> {
    await this.browser.close().catch(() => undefined);
    await this.end('SIGTERM');
  }

  private async end(signal: 'SIGKILL' | 'SIGTERM'): Promise<void> {
    if (this.child.exitCode === null && this.child.signalCode === null) {
      const exited = once(this.child, 'exit');
      this.child.kill(signal);
      await within(20_000, 'Chromium to exit', exited);
    }
    // The profile's last writers may outlive the main process by a moment.
    await rm(this.profile, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
  }
}

async function debugEndpoint(child: ChildProcess): Promise<string> {
  if (!child.stderr) throw new Error('Chromium has no standard error');
  const said: string[] = [];
  for await (const line of createInterface({ input: child.stderr })) {
    said.push(line);
    const found = /DevTools listening on (ws:\S+)/.exec(line);
    if (found?.[1]) {
      // Read on, or the pipe fills and Chromium waits for us.
      child.stderr.resume();
      return found[1];
    }
  }
  throw new Error(`Chromium ended:\n${said.join('\n')}`);
}
