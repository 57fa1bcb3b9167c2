// A participant: a page of its own with the unmodified livekit-client in it.

import type { BrowserContext, Page } from '@playwright/test';

import type { AudioStats, Driver, Happening, JoinTimes, Source, VideoStats } from '../page/driver';
import type { Mesh } from './mesh';
import { until } from './wait';

/** How long media may take to begin or to change; generous because two cores encode and decode all. */
const MEDIA = 20_000;
const NEWS = 10_000;

type Calls = { [K in keyof Driver]: Driver[K] };

export class Peer {
  private readonly console: string[] = [];

  private constructor(
    readonly mesh: Mesh,
    readonly context: BrowserContext,
    readonly page: Page,
    readonly identity: string,
    readonly room: string,
  ) {
    page.on('console', (message) => this.console.push(`${message.type()}: ${message.text()}`));
    page.on('pageerror', (error) => this.console.push(`uncaught: ${error.message}`));
  }

  static async open(mesh: Mesh, context: BrowserContext, driverScript: string, room: string, identity: string): Promise<Peer> {
    const page = await context.newPage();
    const peer = new Peer(mesh, context, page, identity, room);
    await peer.load(driverScript);
    return peer;
  }

  /** Also what a reload does to a person. */
  async load(driverScript: string): Promise<void> {
    // Any page that really comes from the mesh: one made up by the test runner has no address, and
    // Chromium lets such pages connect to nothing on this machine. This one has no policy either.
    await this.page.goto(`${this.mesh.url}rtc/validate`);
    await this.page.addScriptTag({ path: driverScript });
  }

  async call<K extends keyof Calls>(name: K, ...args: Parameters<Calls[K]>): Promise<Awaited<ReturnType<Calls[K]>>> {
    const answer: unknown = await this.page.evaluate(
      ([name, args]) => {
        const driver = window.driver as unknown as Record<string, (...args: unknown[]) => unknown>;
        return driver[name]?.(...args);
      },
      [name, args] as [string, unknown[]],
    );
    return answer as Awaited<ReturnType<Calls[K]>>;
  }

  async join(single = true, relayed = false): Promise<JoinTimes> {
    const token = await this.mesh.token(this.room, this.identity);
    return this.call('join', { url: this.mesh.webSocketUrl, token, single, relayed });
  }

  async publish(): Promise<void> {
    await this.call('publishMicrophone');
    await this.call('publishCamera', 640, 360, 15);
  }

  /** Joins and shows itself. */
  async enter(single = true, relayed = false): Promise<void> {
    await this.join(single, relayed);
    await this.publish();
  }

  // What this participant should come to see.

  /** `frames` more than now. */
  async sees(identity: string, source: Source = 'camera', frames = 10): Promise<VideoStats> {
    let last: VideoStats | undefined;
    const first = (await this.call('video', identity, source))?.framesDecoded ?? 0;
    return until(
      MEDIA,
      `${this.identity} to see ${frames} new frames of the ${source} of ${identity}`,
      async () => {
        last = await this.call('video', identity, source);
        return last && last.framesDecoded >= first + frames ? last : undefined;
      },
      () => last,
    );
  }

  /** A second of samples that are not silence. */
  async hears(identity: string): Promise<AudioStats> {
    let last: AudioStats | undefined;
    let first: AudioStats | undefined;
    return until(
      MEDIA,
      `${this.identity} to hear ${identity}`,
      async () => {
        last = await this.call('audio', identity);
        first ??= last;
        if (!last || !first) return undefined;
        const seconds = last.totalSamplesDuration - first.totalSamplesDuration;
        const energy = last.totalAudioEnergy - first.totalAudioEnergy;
        return seconds >= 1 && energy > 1e-4 ? last : undefined;
      },
      () => ({ first, last }),
    );
  }

  async seesSize(identity: string, wanted: (stats: VideoStats) => boolean, what: string): Promise<VideoStats> {
    let last: VideoStats | undefined;
    let before = -1;
    return until(
      MEDIA,
      `${this.identity} to see ${identity} ${what}`,
      async () => {
        last = await this.call('video', identity);
        if (!last) return undefined;
        // The size is that of the last decoded frame, so there has to be one more.
        const moves = before >= 0 && last.framesDecoded > before;
        before = last.framesDecoded;
        return moves && wanted(last) ? last : undefined;
      },
      () => last,
    );
  }

  async notices<T extends Happening>(what: string, which: (happening: Happening) => happening is T): Promise<T>;
  async notices(what: string, which: (happening: Happening) => boolean): Promise<Happening>;
  async notices(what: string, which: (happening: Happening) => boolean): Promise<Happening> {
    let all: Happening[] = [];
    return until(
      NEWS,
      `${this.identity} to notice ${what}`,
      async () => {
        all = await this.call('happenings');
        return all.find(which);
      },
      () => all.slice(-12),
    );
  }

  async count(which: (happening: Happening) => boolean): Promise<number> {
    return (await this.call('happenings')).filter(which).length;
  }

  async meets(identity: string): Promise<void> {
    await until(NEWS, `${this.identity} to meet ${identity}`, async () =>
      (await this.call('participants')).some((participant) => participant.identity === identity),
    );
  }

  /** For a failure's report. */
  async account(): Promise<string> {
    const happenings = await this.call('happenings').catch(() => 'the page is gone');
    const reports = await this.call('reports').catch(() => [['the page is gone']]);
    const lines = reports.flatMap((rows, index) => [`## connection ${index}`, ...rows.map((row) => JSON.stringify(row))]);
    return [`# ${this.identity}`, ...this.console, JSON.stringify(happenings, undefined, 1), ...lines].join('\n');
  }
}
