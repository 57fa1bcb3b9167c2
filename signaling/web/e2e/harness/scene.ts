// What every spec file has: a mesh, a browser, and people that are gone after each test.

import { fileURLToPath } from 'node:url';

import { type BrowserContext, test } from '@playwright/test';

import { Chromium } from './browser';
import { Mesh } from './mesh';
import { Peer } from './peer';

export const DRIVER = fileURLToPath(new URL('../../node_modules/.cache/e2e/driver.js', import.meta.url));

export class Scene {
  private running: { mesh: Mesh; chromium: Chromium } | undefined;
  private peers: Peer[] = [];
  private contexts: BrowserContext[] = [];

  get mesh(): Mesh {
    return this.started.mesh;
  }

  get chromium(): Chromium {
    return this.started.chromium;
  }

  private get started() {
    if (!this.running) throw new Error('the scene has not started');
    return this.running;
  }

  /** A browser profile of its own. */
  async context(options: Parameters<Chromium['browser']['newContext']>[0] = {}): Promise<BrowserContext> {
    const context = await this.chromium.browser.newContext(options);
    this.contexts.push(context);
    return context;
  }

  async peer(room: string, identity: string, browser = this.chromium): Promise<Peer> {
    const context = await browser.browser.newContext();
    this.contexts.push(context);
    const peer = await Peer.open(this.mesh, context, DRIVER, room, identity);
    this.peers.push(peer);
    return peer;
  }

  /** Several people, all entering with camera and microphone. */
  async people(room: string, identities: string[], single = true): Promise<Peer[]> {
    const peers: Peer[] = [];
    for (const identity of identities) {
      const peer = await this.peer(room, identity);
      await peer.enter(single);
      peers.push(peer);
    }
    return peers;
  }

  async start(mesh: Promise<Mesh>): Promise<void> {
    this.running = { mesh: await mesh, chromium: await Chromium.start() };
  }

  async clear(failed: boolean): Promise<void> {
    if (failed) {
      const accounts = await Promise.all(this.peers.map((peer) => peer.account()));
      await test.info().attach('people.txt', { body: accounts.join('\n\n') });
      await test.info().attach('mesh.log', { body: this.running?.mesh.log.join('\n') ?? '' });
      const metrics = this.running?.mesh.metrics().catch(() => 'no answer');
      await test.info().attach('metrics.txt', { body: (await metrics) ?? '' });
    }
    await Promise.all(this.contexts.map((context) => context.close().catch(() => undefined)));
    this.peers = [];
    this.contexts = [];
  }

  async stop(): Promise<void> {
    await this.running?.chromium.close();
    await this.running?.mesh.stop();
    this.running = undefined;
  }
}

/** One scene for the spec file that calls this. */
export function scene(flags: string[] = [], start = () => Mesh.start(flags)): Scene {
  const scene = new Scene();
  test.beforeAll(() => scene.start(start()));
  test.afterEach(() => scene.clear(test.info().status !== test.info().expectedStatus));
  test.afterAll(() => scene.stop());
  return scene;
}
