// Joins complete when every fifth DTLS datagram is lost in each direction.

import { expect, test } from '@playwright/test';

import type { Peer } from './harness/peer';
import { UdpProxy, newSeed } from './harness/proxy';
import { scene } from './harness/scene';

const JOINS = 40;
const LOSS = 0.2;

const stage = scene(['--media-advertise', '127.0.0.2/127.0.0.1']);

test(`${JOINS} of ${JOINS} joins complete at ${LOSS * 100} % loss`, async () => {
  test.setTimeout(240_000);
  const seed = newSeed();
  test.info().annotations.push({ type: 'seed', description: `SEED=${seed}` });
  const proxy = await UdpProxy.start('127.0.0.2', '127.0.0.1', stage.mesh.udpPorts('127.0.0.1'), { dtls: LOSS, seed });
  try {
    // One who stays, so that every other one has media to wait for.
    const host = await stage.peer('lossy', 'host');
    await host.enter();

    const outcomes: string[] = [];
    for (let index = 0; index < JOINS; index += 1) {
      const guest = await stage.peer('lossy', `guest-${index}`);
      outcomes.push(await attempt(guest, index % 2 === 0));
      await guest.context.close();
    }
    const failed = outcomes.filter((outcome) => !outcome.startsWith('ok'));
    const times = outcomes.map((outcome) => Number(outcome.split(' ')[1])).sort((a, b) => a - b);
    const summary = `SEED=${seed}: ${JOINS - failed.length} of ${JOINS}, ${proxy.counts.lost} datagrams lost, slowest ${times.at(-1)} ms`;
    test.info().annotations.push({ type: 'outcome', description: summary });
    expect(failed, summary).toEqual([]);
    // Otherwise this has tested nothing.
    expect(proxy.counts.lost, summary).toBeGreaterThan(JOINS);
  } finally {
    proxy.stop();
  }
});

async function attempt(guest: Peer, single: boolean): Promise<string> {
  try {
    const { connected } = await guest.join(single);
    await guest.sees('host', 'camera', 1);
    return `ok ${Math.round(connected)}`;
  } catch (error) {
    return `${guest.identity}: ${error instanceof Error ? error.message : String(error)}`;
  }
}
