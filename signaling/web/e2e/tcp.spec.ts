// People whose browser sends no UDP at all, as behind a firewall that blocks it, among others.

import { expect, test } from '@playwright/test';

import { Chromium } from './harness/browser';
import type { Peer } from './harness/peer';
import { scene } from './harness/scene';

const stage = scene();
let confined: Chromium | undefined;

test.beforeAll(async () => {
  confined = await Chromium.start(['--webrtc-ip-handling-policy=disable_non_proxied_udp']);
});
test.afterAll(async () => {
  await confined?.close();
});

const modes = [
  { single: true, name: 'one peer connection' },
  { single: false, name: 'two peer connections' },
];

for (const { single, name } of modes) {
  test(`two without UDP and one with it meet: ${name}`, async () => {
    const room = `tcp-${single}`;
    const ada = await stage.peer(room, 'ada', confined);
    const ben = await stage.peer(room, 'ben', confined);
    const cleo = await stage.peer(room, 'cleo');
    const people: [Peer, string][] = [
      [ada, 'tcp'],
      [ben, 'tcp'],
      [cleo, 'udp'],
    ];
    for (const [one] of people) await one.enter(single);

    for (const [one, protocol] of people) {
      for (const [other] of people) {
        if (one === other) continue;
        await one.sees(other.identity, 'camera', 30);
        await one.hears(other.identity);
        // Otherwise this has tested nothing.
        expect(await one.call('carrier', 'camera', other.identity), other.identity).toMatchObject({ protocol, theirs: protocol });
      }
      expect(await one.call('carrier', 'camera'), one.identity).toMatchObject({ protocol, theirs: protocol });
    }

    for (const reliable of [true, false]) {
      for (const [one] of people) {
        await one.call('sendWords', `from ${one.identity}`, { reliable, topic: `words-${reliable}` });
      }
      for (const [one] of people) {
        for (const [other] of people) {
          if (one === other) continue;
          await one.notices(`words of ${other.identity}`, (it) =>
            it.kind === 'data' && it.from === other.identity && it.topic === `words-${reliable}` && it.text === `from ${other.identity}`,
          );
        }
      }
    }

    // Large enough to fill the connection's window many times over.
    await ben.call('receiveText', 'long');
    await ada.call('sendText', 'x'.repeat(300_000), 'long', ['ben']);
    const text = await ben.notices('300 kB', (it) => it.kind === 'text' && it.topic === 'long');
    expect(text).toMatchObject({ from: 'ada', length: 300_000 });
    await cleo.sees('ada');
    await ada.sees('cleo');
  });
}
