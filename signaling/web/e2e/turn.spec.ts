// People who reach nothing but a relay server, which believes the credentials that signaling gives them.

import { setTimeout as delay } from 'node:timers/promises';

import { expect, test } from '@playwright/test';

import { Chromium } from './harness/browser';
import { Coturn } from './harness/coturn';
import { Mesh } from './harness/mesh';
import { scene } from './harness/scene';

/** In seconds. Long enough to join, short enough to wait for the end. */
const LIFETIME = 6;

/** What a relay server says to credentials that it does not believe. (RFC 8489 §14.8) */
const UNAUTHENTICATED = 401;

let relay: Coturn;
/** Believes the relay server's certificate, which nobody has signed. */
let confined: Chromium | undefined;

test.beforeAll(async () => {
  relay = await Coturn.start();
  confined = await Chromium.start([`--ignore-certificate-errors-spki-list=${relay.fingerprint}`]);
});
test.afterAll(async () => {
  await confined?.close();
  await relay.stop();
});

for (const transport of ['udp', 'tls'] as const) {
  test.describe(`through a relay server over ${transport}`, () => {
    const stage = scene([], () =>
      Mesh.startApart(['--turn-urls', relay.urls[transport], '--turn-secret-file', relay.secretFile, '--turn-lifetime', `${LIFETIME}s`]),
    );

    for (const single of [true, false]) {
      test(`somebody meets who needs none: ${single ? 'one peer connection' : 'two peer connections'}`, async () => {
        const ada = await stage.peer(`turn-${single}`, 'ada', confined);
        const ben = await stage.peer(`turn-${single}`, 'ben');
        await ada.enter(single, true);
        await ben.enter(single);
        for (const [one, other] of [[ada, ben], [ben, ada]] as const) {
          await one.sees(other.identity, 'camera', 30);
          await one.hears(other.identity);
        }
        // Otherwise this has tested nothing.
        for (const whose of [undefined, 'ben']) {
          expect(await ada.call('carrier', 'camera', whose)).toMatchObject({ protocol: 'udp', relay: transport });
        }
        expect(await ben.call('carrier', 'camera')).toMatchObject({ relay: undefined });

        await ada.call('sendWords', 'relayed', { reliable: true, topic: 'turn' });
        await ben.notices('a message', (it) => it.kind === 'data' && it.topic === 'turn' && it.text === 'relayed');
      });
    }

    test('credentials end with their time, and nobody can make some', async () => {
      const ada = await stage.peer('turn-time', 'ada', confined);
      await ada.join(true, true);
      const servers = (await ada.call('iceServers')).filter(({ username }) => username);
      expect(servers).toHaveLength(1);
      expect(await ada.call('askRelays', servers)).toEqual({ relayed: true, errors: [] });

      const forged = servers.map((server) => ({ ...server, username: server.username?.replace(/^\d+/, '4102444800') }));
      expect(await ada.call('askRelays', forged)).toEqual({ relayed: false, errors: [UNAUTHENTICATED] });

      const ends = Number(servers[0]?.username?.split(':')[0]) * 1000;
      expect(ends - Date.now()).toBeLessThanOrEqual(LIFETIME * 1000);
      await delay(Math.max(0, ends - Date.now()) + 1000);
      expect(await ada.call('askRelays', servers)).toEqual({ relayed: false, errors: [UNAUTHENTICATED] });
    });
  });
}
