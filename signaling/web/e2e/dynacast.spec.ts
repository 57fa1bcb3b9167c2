// A publisher sends only what somebody wants. Its SDK was told `dynacast: true`.

import { expect, test } from '@playwright/test';

import type { Peer } from './harness/peer';
import { scene } from './harness/scene';
import { until } from './harness/wait';

const stage = scene();

/** From the last wish for a layer to its end: the node waits four seconds, so that nothing flaps. */
const OFF_WITHIN = 12_000;
/** How long Chromium's estimate of the bandwidth may take to allow three layers. */
const THREE_LAYERS_WITHIN = 30_000;

/** The rids whose bytes grow within a second and a half, by getStats of the sender. */
async function sent(peer: Peer): Promise<string[]> {
  const before = await peer.call('encodings', 'camera');
  await new Promise((resolve) => setTimeout(resolve, 1500));
  const after = await peer.call('encodings', 'camera');
  const grown = after.filter(({ rid, bytes }) => bytes > (before.find((other) => other.rid === rid)?.bytes ?? 0));
  return grown.map(({ rid }) => rid).sort();
}

async function sends(peer: Peer, rids: string[], within: number, what: string): Promise<void> {
  let last: string[] = [];
  await until(
    within,
    what,
    async () => {
      last = await sent(peer);
      return last.join() === rids.join();
    },
    () => last,
  );
}

test('layers stop for nobody and start for somebody', async () => {
  const ada = await stage.peer('dynacast', 'ada');
  await ada.join();
  await ada.call('publishCamera', 1280, 720, 15);
  await sends(ada, [], OFF_WITHIN, 'all layers to stop: nobody is there');

  const ben = await stage.peer('dynacast', 'ben');
  await ben.join();
  await ben.sees('ada');
  await sends(ada, ['f', 'h', 'q'], THREE_LAYERS_WITHIN, 'three layers to be sent for a receiver that wants all');
  await ben.seesSize('ada', ({ frameWidth }) => frameWidth === 1280, 'in full size');

  await ben.call('setQuality', 'ada', 'low');
  await ben.seesSize('ada', ({ frameWidth }) => frameWidth === 320, 'in the smallest size');
  await sends(ada, ['q'], OFF_WITHIN, 'two layers to stop');

  // Nothing was seen of it, and a layer that was off comes back when it is asked for.
  const begin = await ben.sees('ada');
  const asked = Date.now();
  await ben.call('setQuality', 'ada', 'medium');
  await ben.seesSize('ada', ({ frameWidth }) => frameWidth === 640, 'in medium size');
  expect(Date.now() - asked, 'milliseconds until a layer was back').toBeLessThan(4000);
  const end = await ben.sees('ada');
  expect(end.totalFreezesDuration - begin.totalFreezesDuration, 'seconds of freeze').toBeLessThan(1.5);
  expect(end.packetsLost - begin.packetsLost, 'packets lost').toBe(0);

  await ben.call('setSubscribed', 'ada', 'camera', false);
  await sends(ada, [], OFF_WITHIN, 'all layers to stop: the last receiver has gone');
});
