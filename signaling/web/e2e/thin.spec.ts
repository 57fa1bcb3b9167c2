// A line that becomes too thin for pictures: the call goes on with sound alone, says so, and shows
// pictures again when there is room.

import { expect, test } from '@playwright/test';

import { UdpProxy } from './harness/proxy';
import { scene } from './harness/scene';
import { glance, join, showsPicture, tile, visit } from './harness/visit';

const stage = scene(['--media-advertise', '127.0.0.2/127.0.0.1']);

/** Enough for sound with its redundancy, and not for the smallest picture beside it. */
const THIN = 110_000;

let proxy: UdpProxy;
test.beforeAll(async () => {
  proxy = await UdpProxy.start('127.0.0.2', '127.0.0.1', stage.mesh.udpPorts('127.0.0.1'));
});
test.afterAll(() => proxy.stop());

test('on a thin line pictures are left out until it is better, and that is said', async () => {
  test.setTimeout(180_000);
  const ben = await stage.peer('thin', 'ben');
  await ben.enter();
  const { page } = await visit(stage, '?room=thin');
  await join(page, 'Ada');
  await showsPicture(page, 'ben');

  proxy.narrow(THIN);
  const words = page.getByText('Your line is thin, so you hear the others without their pictures.');
  const picture = tile(page, 'ben').locator('video');
  await expect(words).toBeVisible({ timeout: 40_000 });
  await expect(picture).toHaveCount(0);
  await glance(page, 'call-thin');

  proxy.narrow();
  await expect(picture).toBeVisible({ timeout: 60_000 });
  await showsPicture(page, 'ben');
});
