// The page that people call with: from the lobby to the end of the call, with each state that it can be in.

import { expect, test } from '@playwright/test';
import { RoomServiceClient } from 'livekit-server-sdk';

import { crowd } from './harness/crowd';
import { scene } from './harness/scene';
import { type Visit, inCall, join, portray, showsPicture, tabTo, tile, visit } from './harness/visit';
import { until } from './harness/wait';

const stage = scene();

/** Of the demo. */
const KEY = ['devkey', 'secret'] as const;

/** With oneself as many as a page may show. */
const OTHERS = 48;

/** Of the first load, as it is sent. */
const MOST_BYTES = 250_000;

test('the first load is small, asks nobody else, and stays where it is', async () => {
  const ada = await visit(stage, '?room=light', {
    before: `window.shifted = 0;
      new PerformanceObserver((list) => list.getEntries().forEach((it) => { window.shifted += it.value; })).observe({ type: 'layout-shift', buffered: true });`,
  });
  await expect(ada.page.locator('.frame video')).toBeVisible();
  await expect(ada.page.getByLabel('Region')).toContainText('Nearest');
  const { bytes, packed } = await ada.page.evaluate(() => {
    const loaded = performance.getEntriesByType('resource') as PerformanceResourceTiming[];
    const all = [...loaded, ...(performance.getEntriesByType('navigation') as PerformanceResourceTiming[])];
    const scripts = loaded.filter(({ name }) => name.endsWith('.js'));
    return {
      bytes: all.reduce((sum, { encodedBodySize }) => sum + encodedBodySize, 0),
      packed: scripts.every(({ encodedBodySize, decodedBodySize }) => encodedBodySize < decodedBodySize / 2),
    };
  });
  test.info().annotations.push({ type: 'first load', description: `${bytes} bytes` });
  expect(bytes).toBeGreaterThan(50_000);
  expect(bytes).toBeLessThan(MOST_BYTES);
  expect(packed).toBe(true);
  expect(await ada.page.evaluate(() => (window as unknown as { shifted: number }).shifted)).toBeLessThan(0.02);
  const policy = (await fetch(stage.mesh.url)).headers.get('content-security-policy') ?? '';
  expect(policy).toContain("default-src 'none'");
  expect(policy).not.toMatch(/unsafe|\*/);
  await portray(ada.page, 'lobby');
  quiet(ada);
});

test('a call across regions by keyboard alone', async () => {
  test.setTimeout(240_000);
  const ben = await visit(stage, '?room=keys&region=west&name=Ben');
  await join(ben.page, 'Ben');
  const { page, ...ada } = await visit(stage, '?room=keys');
  await expect(page.getByLabel('Your name')).toBeFocused();
  await page.keyboard.type('Ada');
  await tabTo(page, 'Join');
  await page.keyboard.press('Enter');
  await inCall(page);
  await showsPicture(page, 'Ben');
  await showsPicture(ben.page, 'Ada');

  // What one sends.
  const pressed = (name: string) => page.getByRole('button', { name, exact: true }).getAttribute('aria-pressed');
  await page.keyboard.press('m');
  await expect(tile(ben.page, 'Ada').getByRole('img', { name: 'muted' })).toBeVisible();
  expect(await pressed('Microphone')).toBe('false');
  await page.keyboard.press('m');
  await expect(tile(ben.page, 'Ada').getByRole('img', { name: 'muted' })).toHaveCount(0);
  await page.keyboard.press('v');
  await expect(tile(ben.page, 'Ada').locator('video')).toHaveCount(0);
  await page.keyboard.press('v');
  await showsPicture(ben.page, 'Ada');

  // The hand.
  await page.keyboard.press('h');
  await expect(tile(ben.page, 'Ada').getByRole('img', { name: 'hand raised' })).toBeVisible();
  await expect(ben.page.getByText('Ada raised a hand')).toBeVisible();
  await portray(ben.page, 'call-hand');
  await page.keyboard.press('h');
  await expect(tile(ben.page, 'Ada').getByRole('img', { name: 'hand raised' })).toHaveCount(0);

  // Messages. Letters in them are letters.
  await page.keyboard.press('c');
  await page.keyboard.type('Much love, from home');
  await page.keyboard.press('Enter');
  await expect(ben.page.getByLabel('1 unread')).toBeVisible();
  await page.keyboard.press('Escape');
  await expect(page.getByLabel('Message', { exact: true })).toHaveCount(0);
  expect(await pressed('Microphone')).toBe('true');
  await ben.page.keyboard.press('c');
  await expect(ben.page.getByText('Much love, from home')).toBeVisible();
  await portray(ben.page, 'call-chat');
  await ben.page.keyboard.press('Escape');

  // Who is there.
  await page.keyboard.press('p');
  const list = page.getByRole('complementary', { name: 'People in the room' });
  await expect(list.getByRole('listitem')).toHaveCount(2);
  await portray(page, 'call-people');
  await page.keyboard.press('Escape');

  // Which way it takes.
  await tabTo(page, 'Details of Ben');
  await page.keyboard.press('Enter');
  const details = page.getByRole('region', { name: 'Details of Ben' });
  const value = (name: string) => details.locator('dl > div', { hasText: name }).first().locator('dd');
  await expect(value('Path')).toHaveText('Cross region');
  await expect(value('Nodes on the way')).toHaveText(/^\S+ \(west\) → \S+ \(east\)$/, { timeout: 20_000 });
  await expect(value('Latency one way')).toContainText('≈', { timeout: 20_000 });
  await expect(value('Resolution')).toContainText('×');
  for (const name of ['Codec', 'Layer', 'Bitrate', 'Loss', 'Round trip']) {
    await expect(value(name), name).not.toContainText('not known', { timeout: 20_000 });
  }
  await portray(page, 'call-details');
  await page.keyboard.press('Shift+Tab');
  await page.keyboard.press('Enter');
  await expect(details.getByText('Copied')).toBeVisible();
  const ticket = await page.evaluate(() => navigator.clipboard.readText());
  for (const part of ['Details of Ben', 'Room: keys', 'Path: Cross region', '→', 'Codec: ', 'Browser: ']) expect(ticket).toContain(part);
  await page.keyboard.press('d');
  await expect(page.getByRole('region', { name: 'Details of your connection' })).toContainText('east');
  await portray(page, 'call-own-details');
  await page.keyboard.press('d');
  await expect(page.getByRole('region', { name: 'Details of your connection' })).toHaveCount(0);

  // How it looks.
  await page.keyboard.press('g');
  await expect(page.locator('.main-tile figure')).toContainText('Ben');
  await portray(page, 'call-focus');
  await page.keyboard.press('g');
  await expect(page.locator('.main-tile')).toHaveCount(0);
  await page.keyboard.press('?');
  await expect(page.getByRole('dialog')).toBeVisible();
  await portray(page, 'call-settings');
  await page.keyboard.press('Escape');
  await expect(page.getByRole('dialog')).toHaveCount(0);
  await page.keyboard.press('s');
  await expect(ben.page.getByText('Screen of Ada')).toBeVisible({ timeout: 20_000 });
  await showsPicture(ben.page, 'Screen of Ada');
  await portray(ben.page, 'call-screen');
  await page.keyboard.press('s');
  await expect(ben.page.getByText('Screen of Ada')).toHaveCount(0);

  await portray(page, 'call-two');
  await tabTo(page, 'Leave');
  await page.keyboard.press('Enter');
  await expect(page.getByRole('heading', { name: 'Join a room' })).toBeVisible();
  await expect(ben.page.getByText('Only you')).toBeVisible();
  await portray(ben.page, 'call-alone');
  quiet(ada);
  quiet(ben);
});

test('who is refused is told why, and what helps', async () => {
  const denied = await visit(stage, '?room=denied', {
    before: `const real = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
      window.allowed = false;
      navigator.mediaDevices.getUserMedia = (wish) => window.allowed ? real(wish) : Promise.reject(new DOMException('no', 'NotAllowedError'));`,
  });
  for (const device of ['camera', 'microphone']) {
    await expect(denied.page.getByText(`The ${device} is blocked for this page. Allow it in the address bar`)).toBeVisible();
  }
  await portray(denied.page, 'lobby-denied');
  await denied.page.evaluate(() => Object.assign(window, { allowed: true }));
  await denied.page.getByRole('button', { name: 'Try again with the camera' }).click();
  await expect(denied.page.locator('.frame video')).toBeVisible();
  await denied.page.getByRole('button', { name: 'Try again with the microphone' }).click();
  await expect(denied.page.getByText('Say something')).toBeVisible();

  const none = await visit(stage, '?room=none', {
    before: `navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('no', 'NotFoundError'));
      navigator.mediaDevices.enumerateDevices = () => Promise.resolve([]);`,
  });
  await expect(none.page.getByText('No camera was found')).toBeVisible();
  await expect(none.page.getByText('No microphone was found')).toBeVisible();
  await portray(none.page, 'lobby-no-devices');
  await join(none.page, 'Ada');
  await expect(none.page.getByText('Only you')).toBeVisible();

  await new RoomServiceClient(stage.mesh.origin, ...KEY).createRoom({ name: 'full', maxParticipants: 1 });
  await (await stage.peer('full', 'first')).join();
  const late = await visit(stage, '?room=full');
  await late.page.getByLabel('Your name').fill('Late');
  await late.page.getByRole('button', { name: 'Join' }).click();
  await expect(late.page.getByRole('alert')).toContainText('The room is full');
  await portray(late.page, 'lobby-full');

  const wrong = await visit(stage, '?token=not.a.token');
  await wrong.page.getByRole('button', { name: 'Join' }).click();
  await expect(wrong.page.getByRole('alert')).toContainText('did not accept the token');
  await portray(wrong.page, 'lobby-token');
});

test('choices are remembered', async () => {
  const { page } = await visit(stage, '?room=again');
  await page.getByRole('button', { name: 'Camera' }).click();
  await page.getByLabel('Region').selectOption('west');
  const microphone = page.getByRole('combobox', { name: 'Microphone' });
  const second = await microphone.locator('option').nth(1).getAttribute('value');
  await microphone.selectOption(second);
  await join(page, 'Ada');
  await expect(tile(page, 'Ada').locator('video')).toHaveCount(0);
  await page.keyboard.press('d');
  await expect(page.getByRole('region', { name: 'Details of your connection' })).toContainText('west');
  await page.getByRole('button', { name: 'Leave' }).click();
  await page.goto(`${stage.mesh.url}?room=again`);
  await expect(page.getByRole('button', { name: 'Camera' })).toHaveAttribute('aria-pressed', 'false');
  await expect(page.getByText('Camera is off')).toBeVisible();
  await expect(page.getByLabel('Region')).toHaveValue('west');
  await expect(microphone).toHaveValue(second ?? '');
});

test('of forty-eight others only those who are seen are subscribed to', async () => {
  test.setTimeout(240_000);
  const guests = crowd(stage.mesh, 'crowd', OTHERS);
  try {
    const { page, ...rest } = await visit(stage, '?room=crowd');
    await join(page, 'Ada');
    await expect(page.getByText(`${OTHERS + 1} people`)).toBeVisible({ timeout: 60_000 });
    const identity = (await page.locator('figure', { hasText: '(you)' }).getAttribute('data-identity')) ?? '';
    const seen = () => page.locator('figure[data-source=camera]').evaluateAll((all) => all.map((it) => it.getAttribute('data-identity') ?? ''));
    const onlySeen = async (what: string) => {
      let last: unknown;
      await until(
        30_000,
        `to receive those on ${what}, and nobody else`,
        async () => {
          const wanted = (await seen()).filter((it) => it !== identity).sort();
          const received = (await subscribed('crowd', identity)).sort();
          last = { wanted, received };
          return wanted.length > 0 && wanted.join() === received.join();
        },
        () => last,
      );
      return seen();
    };
    const first = await onlySeen('the first page');
    expect(first).toHaveLength(25);
    await portray(page, 'call-grid');
    await page.keyboard.press('PageDown');
    await expect(page.getByRole('status').filter({ hasText: '2 / 2' })).toBeVisible();
    const second = await onlySeen('the second page');
    expect(first.filter((it) => second.includes(it))).toEqual([]);
    expect(new Set([...first, ...second]).size).toBe(OTHERS + 1);
    await page.keyboard.press('PageUp');
    await onlySeen('the first page again');

    await page.keyboard.press('g');
    await onlySeen('the page beside the large tile');
    await portray(page, 'call-grid-focus');
    await page.keyboard.press('g');
    await page.setViewportSize({ width: 360, height: 740 });
    await onlySeen('a page of a telephone');
    await page.setViewportSize({ width: 1280, height: 800 });

    await page.keyboard.press('p');
    await expect(page.getByRole('complementary', { name: 'People in the room' }).getByRole('listitem')).toHaveCount(OTHERS + 1);
    await portray(page, 'call-grid-people');
    await page.keyboard.press('Escape');

    // All of them, as small as they have to be.
    await page.setViewportSize({ width: 1920, height: 1080 });
    await page.getByRole('button', { name: 'Devices' }).click();
    await page.getByLabel('People on a page').selectOption('49');
    await page.keyboard.press('Escape');
    await expect(page.locator('figure[data-source=camera]')).toHaveCount(OTHERS + 1);
    await onlySeen('the only page');
    await portray(page, 'call-grid-all');

    // On a thin line sound suffices.
    await page.getByRole('button', { name: 'Devices' }).click();
    await page.getByLabel('Sound only').check();
    await page.keyboard.press('Escape');
    await until(20_000, 'no picture', async () => (await subscribed('crowd', identity)).length === 0);
    await portray(page, 'call-sound-only');
    await page.getByRole('button', { name: 'Show pictures' }).click();
    await onlySeen('the only page, again');
    quiet(rest);
  } catch (error) {
    throw new Error(`${String(error)}\n${guests.log.slice(-20).join('\n')}`, { cause: error });
  } finally {
    await guests.kill();
  }
});

test('nothing that one uses moves when somebody joins', async () => {
  const { page } = await visit(stage, '?room=still');
  await join(page, 'Ada');
  await showsPicture(page, 'Ada');
  const places = async () =>
    Promise.all(['.call-header h1', '.call-header .count', '.controls', '.control.leave', '.stage'].map((it) => page.locator(it).boundingBox().then((box) => box && { x: box.x, y: box.y })));
  const before = await places();
  const ben = await stage.peer('still', 'ben');
  await ben.enter();
  await showsPicture(page, 'ben');
  expect(await places()).toEqual(before);
});

test('a connection that is lost is spoken of, and comes back', async () => {
  const { page } = await visit(stage, '?room=lost', {
    before: `const Plain = window.WebSocket;
      const all = [];
      window.cut = false;
      window.lose = () => { window.cut = true; all.forEach((socket) => socket.close()); };
      window.WebSocket = class extends Plain {
        constructor(url, protocols) { super(window.cut ? 'ws://127.0.0.1:1/' : url, protocols); all.push(this); }
      };`,
  });
  await join(page, 'Ada');
  const ben = await stage.peer('lost', 'ben');
  await ben.enter();
  await showsPicture(page, 'ben');
  await page.evaluate(() => (window as unknown as { lose: () => void }).lose());
  const words = page.getByText('Reconnecting… The call goes on when the network is back.');
  await expect(words).toBeVisible();
  // Those who were there are most likely still there.
  await expect(tile(page, 'ben')).toBeVisible();
  await portray(page, 'call-reconnecting');
  await page.evaluate(() => Object.assign(window, { cut: false }));
  await expect(page.getByText('The connection is back.')).toBeVisible({ timeout: 30_000 });
  await expect(words).toHaveCount(0);
  await showsPicture(page, 'ben');
  await ben.sees((await tile(page, 'Ada').getAttribute('data-identity')) ?? '');
});

test('the end of a call that somebody else ends is spoken of', async () => {
  const { page } = await visit(stage, '?room=over');
  await join(page, 'Ada');
  await new RoomServiceClient(stage.mesh.origin, ...KEY).deleteRoom('over');
  await expect(page.getByRole('alert')).toContainText('The room was closed');
  await portray(page, 'over');
  await page.keyboard.press('Enter');
  await expect(page.getByRole('heading', { name: 'Join a room' })).toBeVisible();
});

/** Whose pictures a participant is subscribed to, as the mesh has it. */
async function subscribed(room: string, identity: string): Promise<string[]> {
  const token = await stage.mesh.token(room, identity);
  const answer = await fetch(`${stage.mesh.url}rooms/${room}/paths`, { headers: { authorization: `Bearer ${token}` } });
  if (!answer.ok) return [`${answer.status}`];
  const { tracks } = (await answer.json()) as { tracks: { publisher: string; kind: string }[] };
  return tracks.filter(({ kind }) => kind === 'video').map(({ publisher }) => publisher);
}

/** Nothing was refused, and nobody else was asked. */
function quiet({ faults, outside }: Pick<Visit, 'faults' | 'outside'>): void {
  expect(faults).toEqual([]);
  expect(outside).toEqual([]);
}
