// A line that loses packets both ways: what is missing comes again, sound as well as picture.

import { expect, test } from '@playwright/test';

import type { Peer } from './harness/peer';
import type { AudioStats } from './page/driver';
import { UdpProxy, newSeed } from './harness/proxy';
import { scene } from './harness/scene';
import { until } from './harness/wait';

const stage = scene(['--media-advertise', '127.0.0.2/127.0.0.1']);

const LOSS = 0.05;
/** What is still missing in the end, by Chromium's own count. */
const RESIDUAL_LOSS = 0.002;
/** Packets of sound: twenty seconds. */
const PACKETS = 1000;

let proxy: UdpProxy;
const seed = newSeed();
test.beforeAll(async () => {
  const ports = stage.mesh.udpPorts('127.0.0.1');
  proxy = await UdpProxy.start('127.0.0.2', '127.0.0.1', ports, { media: LOSS, seed });
});
test.afterAll(() => {
  proxy.stop();
});

for (const single of [true, false]) {
  test(`what is lost comes again: ${single ? 'one peer connection' : 'two peer connections'}`, async () => {
    const [ada, ben] = (await stage.people(`loss-${single}`, ['ada', 'ben'], single)) as [Peer, Peer];
    const repeats = proxy.compareRepeats();
    let heard: AudioStats | undefined;
    // What is on its way again counts as lost for a moment.
    const whole = async () => {
      heard = await ben.call('audio', 'ada');
      return heard && heard.packetsReceived > PACKETS && heard.packetsLost <= RESIDUAL_LOSS * heard.packetsReceived;
    };
    await until(60_000, 'enough sound, with next to nothing missing', whole, () => heard);
    const sent = await ada.call('sent', 'microphone');
    const seen = await ben.call('video', 'ada');
    const [up, down] = [repeats.up.counts, repeats.down.counts];
    const outcome = `SEED=${seed}: ${JSON.stringify({ heard, seen, sent, proxy: proxy.counts, up, down })}`;
    test.info().annotations.push({ type: 'outcome', description: outcome });
    expect(heard?.nackCount, outcome).toBeGreaterThan(0);
    expect(sent?.retransmittedPacketsSent, outcome).toBeGreaterThan(0);
    // The picture moved all the time, of fifteen frames in each of twenty seconds or more. A machine that has
    // other things to do costs some as well; without repairs hardly any would be left.
    expect(seen?.framesDecoded, outcome).toBeGreaterThan(200);
    expect(seen?.totalFreezesDuration, outcome).toBeLessThan(2);
    for (const way of [up, down]) {
      expect(way.same, outcome).toBeGreaterThan(0);
      expect(way.altered, outcome).toBe(0);
    }
  });
}
