// How long a join takes in Chromium, against a mesh of our own, when somebody with camera and
// microphone is there already. Prints, judges nothing.
//
// Usage: npm run bench -- [joins]

import { Chromium } from '../harness/browser';
import { Mesh } from '../harness/mesh';
import { Peer } from '../harness/peer';
import { DRIVER } from '../harness/scene';
import setup from '../harness/setup';
import { type Marks, watch } from './marks';
import { write } from './report';

const joins = Number(process.argv.at(-1)) || 50;

interface Sample extends Marks {
  /** The first frame was decoded and shown. */
  frame: number;
}

/** All are told from the moment the WebSocket is asked for. The stations between are where time goes. */
const STATIONS: { mark: keyof Sample; name: string }[] = [
  { mark: 'open', name: 'WebSocket open' },
  { mark: 'joinResponse', name: 'JoinResponse' },
  { mark: 'described', name: 'track described' },
  { mark: 'connected', name: 'ICE and DTLS connected' },
  { mark: 'frame', name: 'first decoded frame' },
];

async function main(): Promise<void> {
  await setup();
  const mesh = await Mesh.start();
  const chromium = await Chromium.start();
  const results: Record<string, object> = {};
  try {
    const host = await open(mesh, chromium, 'host');
    await host.enter();
    for (const single of [true, false]) {
      const samples: Sample[] = [];
      for (let index = 0; index < joins; index += 1) samples.push(await sample(mesh, chromium, `guest-${index}`, single));
      results[single ? 'one_peer_connection' : 'two_peer_connections'] = print(single, samples);
    }
  } finally {
    await chromium.close();
    await mesh.stop();
  }
  await write('join', results);
}

async function open(mesh: Mesh, chromium: Chromium, identity: string): Promise<Peer> {
  const context = await chromium.browser.newContext();
  await context.addInitScript(watch);
  return Peer.open(mesh, context, DRIVER, 'bench', identity);
}

async function sample(mesh: Mesh, chromium: Chromium, identity: string, single: boolean): Promise<Sample> {
  const guest = await open(mesh, chromium, identity);
  const token = await mesh.token('bench', identity);
  const times = await guest.call('joinAndSee', { url: mesh.webSocketUrl, token, single }, 'host');
  const marks = await guest.page.evaluate(() => window.marks);
  await guest.call('leave');
  await guest.context.close();
  return { ...marks, frame: (marks.open ?? NaN) - times.upgrade + times.firstFrame };
}

function print(single: boolean, samples: Sample[]): object {
  const title = single ? 'one peer connection' : 'two peer connections';
  process.stdout.write(`${title}, ${samples.length} joins, from the WebSocket's upgrade to\n`);
  const stations = STATIONS.map(({ mark, name }) => {
    const times = samples.map((marks) => (marks[mark] ?? NaN) - (marks.upgrade ?? NaN)).sort((a, b) => a - b);
    const at = (share: number) => times[Math.min(times.length - 1, Math.floor(times.length * share))] ?? NaN;
    const [p50, p99] = [at(0.5).toFixed(1), at(0.99).toFixed(1)];
    process.stdout.write(`  ${name.padEnd(24)} p50 ${p50.padStart(7)} ms   p99 ${p99.padStart(7)} ms\n`);
    return [mark, { p50_ms: Number(p50), p99_ms: Number(p99) }];
  });
  return { joins: samples.length, ...Object.fromEntries(stations) as object };
}

await main();
