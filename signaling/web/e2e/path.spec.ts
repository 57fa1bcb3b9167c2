// What must not end a call: a new path, a lost WebSocket, a reload. And what must: a browser that is gone.

import { expect, test } from '@playwright/test';

import { Chromium } from './harness/browser';
import type { Peer } from './harness/peer';
import { UdpProxy } from './harness/proxy';
import { DRIVER, scene } from './harness/scene';
import { until } from './harness/wait';

const stage = scene(['--media-advertise', '127.0.0.2/127.0.0.1']);

/** The default of `session.resume_grace`, and time to notice a connection that broke. */
const GRACE_MAX = 15_000 + 10_000;

let proxy: UdpProxy;
test.beforeAll(async () => {
  proxy = await UdpProxy.start('127.0.0.2', '127.0.0.1', stage.mesh.udpPorts('127.0.0.1'));
});
test.afterAll(() => {
  proxy.stop();
});

async function messagesArrive(ada: Peer, ben: Peer): Promise<void> {
  await ada.call('sendWords', 'still here', { reliable: true, topic: 'after' });
  await ben.notices('a message', (it) => it.kind === 'data' && it.topic === 'after');
  await ben.call('sendWords', 'good', { reliable: true, topic: 'after' });
  await ada.notices('an answer', (it) => it.kind === 'data' && it.topic === 'after');
}

for (const single of [true, false]) {
  test.describe(single ? 'one peer connection' : 'two peer connections', () => {
    test('a new path in mid-call goes unnoticed', async () => {
      const people = await stage.people(`path-${single}`, ['ada', 'ben'], single);
      await flows(people);
      for (let round = 0; round < 3; round += 1) {
        expect(proxy.rebind(), 'flows that moved').toBeGreaterThanOrEqual(people.length);
        await flows(people);
      }
      for (const one of people) {
        expect(await one.count((it) => !['came', 'speakers', 'state', 'stream'].includes(it.kind))).toBe(0);
      }
    });

    test('a lost WebSocket does not end the session', async () => {
      const people = await stage.people(`resume-${single}`, ['ada', 'ben'], single);
      const [ada, ben] = people as [Peer, Peer];
      await flows(people);
      const tracks = await tracksOf(ben, 'ada');
      await ada.call('simulate', 'signal-reconnect');
      await ada.notices('being back', (it) => it.kind === 'reconnected');
      await flows(people);
      expect(await tracksOf(ben, 'ada')).toEqual(tracks);
      for (const one of people) {
        expect(await one.count((it) => it.kind === 'left'), `people who left, as seen by ${one.identity}`).toBe(0);
      }
      await messagesArrive(ada, ben);
    });

    // In both the SDK itself gives its session up, with a leave, and joins anew.
    for (const scenario of ['resume-reconnect', 'full-reconnect'] as const) {
      test(`who joins anew gets everything back: ${scenario}`, async () => {
        const people = await stage.people(`${scenario}-${single}`, ['ada', 'ben'], single);
        const [ada, ben] = people as [Peer, Peer];
        await flows(people);
        await ada.call('simulate', scenario);
        await ada.notices('being back', (it) => it.kind === 'reconnected');
        await flows(people);
        await messagesArrive(ada, ben);
      });
    }

    test('a reload returns under the same identity', async () => {
      const people = await stage.people(`reload-${single}`, ['ada', 'ben'], single);
      const [ada, ben] = people as [Peer, Peer];
      await flows(people);
      await ada.load(DRIVER);
      await ada.enter(single);
      await flows(people);
      const seen = (await ben.call('participants')).map(({ identity }) => identity);
      expect(seen).toEqual(['ada']);
    });
  });
}

test('a second tab under the same identity replaces the first', async () => {
  const [ada] = (await stage.people('twice', ['ada'])) as [Peer];
  const again = await stage.peer('twice', 'ada');
  await again.join();
  // DUPLICATE_IDENTITY of the protocol's DisconnectReason.
  await ada.notices('being replaced', (it) => it.kind === 'disconnected' && it.reason === 2);
  expect(await again.call('state')).toBe('connected');
});

test('a browser that is killed leaves within the grace period', async () => {
  const other = await Chromium.start();
  const [ada] = (await stage.people('killed', ['ada'])) as [Peer];
  const ben = await stage.peer('killed', 'ben', other);
  try {
    await ben.enter();
    await ada.sees('ben');
  } finally {
    await other.kill();
  }
  await until(GRACE_MAX, 'ben to be gone', () => ada.count((it) => it.kind === 'left' && it.identity === 'ben').then((count) => count > 0));
  expect(await ada.call('participants')).toEqual([]);
});

async function flows(people: Peer[]): Promise<void> {
  for (const one of people) {
    for (const other of people) {
      if (one === other) continue;
      await one.sees(other.identity);
      await one.hears(other.identity);
    }
  }
}

async function tracksOf(peer: Peer, identity: string): Promise<string[]> {
  const seen = (await peer.call('participants')).find((participant) => participant.identity === identity);
  return seen?.tracks.map(({ sid }) => sid).sort() ?? [];
}
