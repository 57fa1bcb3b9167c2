// Three simulcast layers and a receiver that cannot make up its mind.

import { expect, test } from '@playwright/test';

import { scene } from './harness/scene';
import { until } from './harness/wait';

const stage = scene();

/** Of a switch, or of a whole run; a missed key frame costs seconds. */
const FREEZE_MAX_SECONDS = 1.5;
const ROUNDS = 4;

const WIDTHS = { low: 320, medium: 640, high: 1280 } as const;

for (const [codec, single] of [
  ['vp8', true],
  ['vp8', false],
  ['h264', true],
] as const) {
  const layout = single ? 'one peer connection' : 'two peer connections';
  test(`layers of ${codec} are switched back and forth, ${layout}`, async () => {
    const room = `layers-${codec}-${single}`;
    const ada = await stage.peer(room, 'ada');
    await ada.join(single);
    await ada.call('publishCamera', 1280, 720, 15, codec);
    const ben = await stage.peer(room, 'ben');
    await ben.join(single);

    // Chromium enables the larger layers when its estimate of the bandwidth allows them.
    await until(30_000, 'three layers to be sent', async () => {
      const encodings = await ada.call('encodings', 'camera');
      return encodings.filter(({ width, active }) => active && width > 0).length === 3;
    });
    await ben.seesSize('ada', ({ frameWidth }) => frameWidth === 1280, 'in full size');

    const begin = await ben.sees('ada', 'camera', 1);
    for (let round = 0; round < ROUNDS; round += 1) {
      for (const quality of ['low', 'medium', 'high', 'medium', 'low', 'high'] as const) {
        const before = await ben.sees('ada', 'camera', 1);
        await ben.call('setQuality', 'ada', quality);
        const after = await ben.seesSize('ada', ({ frameWidth }) => frameWidth === WIDTHS[quality], `in ${quality} quality`);
        expect(after.frameHeight, quality).toBe((WIDTHS[quality] * 9) / 16);
        expect(after.totalFreezesDuration - before.totalFreezesDuration, `freeze at ${quality}`).toBeLessThan(FREEZE_MAX_SECONDS);
      }
    }
    const end = await ben.sees('ada');

    // A decoder that gets something else than a whole stream asks for key frames. Each switch up or down
    // needs one key frame, asked for by the server, not by the receiver.
    expect(end.pliCount - begin.pliCount, 'key frames asked for by the receiver').toBeLessThanOrEqual(2);
    expect(end.packetsLost - begin.packetsLost, 'packets lost').toBe(0);
    expect(end.framesDecoded).toBeGreaterThan(begin.framesDecoded);
  });
}
