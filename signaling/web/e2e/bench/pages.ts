// How much each page loads, and how soon it can be used, in Chromium with nothing cached: on this
// machine as it is, and as on a telephone. Prints, judges nothing.
//
// Usage: vite-node e2e/bench/pages.ts [loads]

import type { BrowserContext, CDPSession } from '@playwright/test';

import { Chromium } from '../harness/browser';
import { Mesh } from '../harness/mesh';
import { freePorts } from '../harness/ports';
import setup from '../harness/setup';
import { write } from './report';
import { type Start, watchStart } from './start';

const loads = Number(process.argv.at(-1)) || 20;

/** What one first does on a page can be done, and the page answers at once. */
interface Place {
  name: string;
  url: (mesh: Mesh, admin: string) => string;
  /** Is there, and can be used. */
  first: string;
}

const PAGES: Place[] = [
  { name: 'call', url: (mesh) => `${mesh.url}?room=bench`, first: 'form button[type=submit]:enabled' },
  { name: 'mesh', url: (_, admin) => `http://${admin}/mesh`, first: '.picture svg' },
];

/** Lighthouse's mobile profile: a processor four times slower, 1.6 Mbit/s down, 150 ms there and back. */
const PHONE = { slower: 4, bitsPerSecond: 1_600_000, roundTripMs: 150 };
const LINES = [
  { name: 'this machine', throttle: undefined },
  { name: 'telephone', throttle: PHONE },
];

async function main(): Promise<void> {
  await setup();
  const [port] = await freePorts(1);
  const admin = `127.0.0.1:${port}`;
  const mesh = await Mesh.start(['--admin-listen', admin]);
  const chromium = await Chromium.start();
  const results: Record<string, object> = {};
  try {
    for (const place of PAGES) {
      const url = place.url(mesh, admin);
      for (const { name, throttle } of LINES) {
        const starts: Start[] = [];
        for (let load = 0; load < loads; load += 1) {
          const context = await chromium.browser.newContext();
          starts.push(await measure(context, url, place.first, throttle));
          await context.close();
        }
        results[`${place.name}, ${name}`] = print(place, name, starts);
      }
    }
  } finally {
    await chromium.close();
    await mesh.stop();
  }
  await write('pages', results);
}

async function measure(context: BrowserContext, url: string, first: string, throttle?: typeof PHONE): Promise<Start> {
  const page = await context.newPage();
  await page.addInitScript(watchStart, first);
  if (throttle) await slow(await context.newCDPSession(page), throttle);
  await page.goto(url);
  const start = await page.waitForFunction(() => window.start?.settled, undefined, { timeout: 60_000 });
  return (await start.jsonValue()) as Start;
}

async function slow(session: CDPSession, { slower, bitsPerSecond, roundTripMs }: typeof PHONE): Promise<void> {
  await session.send('Emulation.setCPUThrottlingRate', { rate: slower });
  await session.send('Network.enable');
  const bytes = bitsPerSecond / 8;
  await session.send('Network.emulateNetworkConditions', { offline: false, latency: roundTripMs, downloadThroughput: bytes, uploadThroughput: bytes / 2 });
}

function print({ name }: Place, line: string, starts: Start[]): object {
  const [first] = starts;
  if (!first) return {};
  const middle = (of: (start: Start) => number) => Math.round(starts.map(of).sort((a, b) => a - b)[Math.floor(starts.length / 2)] ?? NaN);
  const figures = { painted_ms: middle(({ painted }) => painted), interactive_ms: middle(({ interactive }) => interactive), blocked_ms: middle(({ blocked }) => blocked) };
  const kilobytes = (first.bytes / 1000).toFixed(1);
  process.stdout.write(
    `page ${name.padEnd(5)} ${kilobytes.padStart(6)} kB in ${first.files} files; ${line.padEnd(13)}` +
      ` first paint ${figures.painted_ms} ms, interactive ${figures.interactive_ms} ms, tasks beyond 50 ms ${figures.blocked_ms} ms (medians of ${starts.length})\n`,
  );
  return { loads: starts.length, bytes: first.bytes, files: first.files, ...figures };
}

await main();
