// One stream with spatial and temporal layers in it, and a receiver that is sent as much of it as it asks
// for: publisher and receiver are Chromium with the unmodified SDK.

import { expect, test } from '@playwright/test';

import { scene } from './harness/scene';
import { until } from './harness/wait';

const stage = scene();

// A quarter of it is still even: encoders take no odd sizes.
const [WIDTH, HEIGHT, RATE] = [960, 544, 10];
const WIDTHS = { low: 240, medium: 480, high: 960 } as const;
/** Of one switch: it waits for a key frame, which two busy cores encode. */
const FREEZE_MAX_SECONDS = 2.5;

for (const [codec, mode, single] of [
  ['vp9', 'L3T3_KEY', true],
  ['av1', 'L3T3_KEY', false],
  ['vp9', 'L3T3', false],
  ['av1', 'L3T3', true],
] as const) {
  const layout = single ? 'one peer connection' : 'two peer connections';
  test(`layers of ${codec} ${mode} are left and taken up again, ${layout}`, async () => {
    const room = `scalable-${codec}-${mode}`;
    const ada = await stage.peer(room, 'ada');
    await ada.join(single);
    await ada.call('publishScalable', WIDTH, HEIGHT, RATE, codec, mode);
    const ben = await stage.peer(room, 'ben');
    await ben.join(single);

    // Chromium begins the larger layers when its estimate of the bandwidth allows them.
    await until(30_000, 'the whole picture to be encoded', async () => {
      const [encoding] = await ada.call('encodings', 'camera');
      return encoding?.width === WIDTH && encoding.mode === mode;
    });
    await ben.seesSize('ada', ({ frameWidth }) => frameWidth === WIDTH, 'in full size');

    const begin = await ben.sees('ada', 'camera', 1);
    for (const quality of ['low', 'high', 'medium', 'low', 'medium', 'high'] as const) {
      const before = await ben.sees('ada', 'camera', 1);
      await ben.call('setQuality', 'ada', quality);
      const after = await ben.seesSize('ada', ({ frameWidth }) => frameWidth === WIDTHS[quality], `in ${quality} quality`);
      expect(after.frameHeight, quality).toBe((WIDTHS[quality] * HEIGHT) / WIDTH);
      expect(after.totalFreezesDuration - before.totalFreezesDuration, `freeze at ${quality}`).toBeLessThan(FREEZE_MAX_SECONDS);
      // It stays so: every frame that comes can be decoded.
      const settled = await ben.sees('ada', 'camera', 2 * RATE);
      expect(settled.frameWidth, quality).toBe(WIDTHS[quality]);
    }
    const end = await ben.sees('ada', 'camera', 1);
    expect(end.pliCount - begin.pliCount, 'key frames asked for by the receiver').toBeLessThanOrEqual(2);
    expect(end.packetsLost - begin.packetsLost, 'packets lost').toBe(0);
  });
}
