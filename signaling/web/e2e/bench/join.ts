// How long a join takes in Chromium, against a mesh of our own. Prints, judges nothing.
//
// Usage: npm run bench -- [joins]

import { Chromium } from '../harness/browser';
import { Mesh } from '../harness/mesh';
import { Peer } from '../harness/peer';
import { DRIVER } from '../harness/scene';
import setup from '../harness/setup';

const joins = Number(process.argv.at(-1)) || 50;

interface Sample {
  joinResponse: number;
  firstFrame: number;
}

async function main(): Promise<void> {
  await setup();
  const mesh = await Mesh.start();
  const chromium = await Chromium.start();
  try {
    const host = await open(mesh, chromium, 'host');
    await host.enter();
    for (const single of [true, false]) {
      const samples: Sample[] = [];
      for (let index = 0; index < joins; index += 1) samples.push(await sample(mesh, chromium, `guest-${index}`, single));
      print(single ? 'one peer connection' : 'two peer connections', samples);
    }
  } finally {
    await chromium.close();
    await mesh.stop();
  }
}

async function open(mesh: Mesh, chromium: Chromium, identity: string): Promise<Peer> {
  const context = await chromium.browser.newContext();
  return Peer.open(mesh, context, DRIVER, 'bench', identity);
}

async function sample(mesh: Mesh, chromium: Chromium, identity: string, single: boolean): Promise<Sample> {
  const guest = await open(mesh, chromium, identity);
  const token = await mesh.token('bench', identity);
  const times = await guest.call('joinAndSee', { url: mesh.webSocketUrl, token, single }, 'host');
  await guest.call('leave');
  await guest.context.close();
  return { joinResponse: times.joinResponse - times.upgrade, firstFrame: times.firstFrame };
}

function print(title: string, samples: Sample[]): void {
  const line = (what: string, values: number[]) => {
    values.sort((a, b) => a - b);
    const at = (share: number) => (values[Math.min(values.length - 1, Math.floor(values.length * share))] ?? NaN).toFixed(1);
    process.stdout.write(`  ${what.padEnd(48)} p50 ${at(0.5).padStart(7)} ms   p99 ${at(0.99).padStart(7)} ms\n`);
  };
  process.stdout.write(`${title}, ${samples.length} joins\n`);
  line('WebSocket open to JoinResponse', samples.map((it) => it.joinResponse));
  line('connect() to the first decoded remote frame', samples.map((it) => it.firstFrame));
}

await main();
