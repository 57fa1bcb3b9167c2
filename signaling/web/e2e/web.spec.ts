// The web client as people use it, under the policy it is served with.

import { type Page, expect, test } from '@playwright/test';

import { scene } from './harness/scene';
import { until } from './harness/wait';

const stage = scene();

const SIZES = [
  { width: 360, height: 740 },
  { width: 1280, height: 800 },
  { width: 1920, height: 1080 },
];

interface Options {
  width?: number;
  height?: number;
  colorScheme?: 'light' | 'dark';
}

/** A page that tells of everything the policy or the code refuses. */
async function open(query: string, { width = 1280, height = 800, colorScheme = 'light' }: Options = {}) {
  const context = await stage.context({ viewport: { width, height }, colorScheme });
  await context.grantPermissions(['clipboard-read', 'clipboard-write'], { origin: stage.mesh.origin });
  const page = await context.newPage();
  const faults: string[] = [];
  page.on('pageerror', (error) => faults.push(`uncaught: ${error.message}`));
  page.on('console', (message) => {
    if (message.type() === 'error') faults.push(message.text());
  });
  await page.addInitScript(() => {
    document.addEventListener('securitypolicyviolation', (event) => {
      // eslint-disable-next-line no-console -- this is how the page tells the test
      console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`);
    });
  });
  const outside: string[] = [];
  page.on('request', (request) => {
    const url = new URL(request.url());
    if (url.protocol.startsWith('http') && url.origin !== stage.mesh.origin) outside.push(request.url());
  });
  await page.goto(`${stage.mesh.url}${query}`);
  return { page, faults, outside };
}

async function join(page: Page, name: string): Promise<void> {
  await page.getByLabel('Your name').fill(name);
  await page.getByRole('button', { name: 'Join' }).click();
  await expect(page.getByRole('toolbar', { name: 'Call' })).toBeVisible();
}

/** The tile of a person shows a picture that moves. */
async function showsPicture(page: Page, name: string): Promise<void> {
  const video = page.locator('figure', { hasText: name }).locator('video');
  const frames = () => video.evaluate((element) => (element as HTMLVideoElement).getVideoPlaybackQuality().totalVideoFrames);
  await expect(video).toBeVisible({ timeout: 20_000 });
  const first = await frames();
  await until(20_000, `a moving picture of ${name}`, async () => (await frames()) > first + 5);
}

test('the policy is strict', async () => {
  const answer = await fetch(stage.mesh.url);
  const policy = answer.headers.get('content-security-policy') ?? '';
  expect(policy).toMatch(/default-src '(none|self)'/);
  expect(policy).toContain("script-src 'self'");
  expect(policy).toContain("style-src 'self'");
  expect(policy).not.toContain('unsafe');
});

test('two people meet, talk, write, and leave', async () => {
  const ada = await open('?room=blue');
  const ben = await open('?room=blue&name=Ben', { colorScheme: 'dark' });
  await join(ada.page, 'Ada');
  await join(ben.page, 'Ben');
  await showsPicture(ada.page, 'Ben');
  await showsPicture(ben.page, 'Ada');
  await expect(ada.page.getByText('2 people')).toBeVisible();

  await ben.page.getByRole('button', { name: 'Microphone' }).click();
  await expect(ada.page.locator('figure', { hasText: 'Ben' }).getByRole('img', { name: 'muted' })).toBeVisible();
  await ben.page.getByRole('button', { name: 'Camera' }).click();
  await expect(ada.page.locator('figure', { hasText: 'Ben' }).locator('video')).toHaveCount(0);
  await ben.page.getByRole('button', { name: 'Camera' }).click();
  await showsPicture(ada.page, 'Ben');

  await ada.page.getByRole('button', { name: 'Chat' }).click();
  await ada.page.getByLabel('Message', { exact: true }).fill('Can you hear me?');
  await ada.page.getByLabel('Message', { exact: true }).press('Enter');
  await expect(ben.page.getByLabel('1 unread')).toBeVisible();
  await ben.page.getByRole('button', { name: 'Chat' }).click();
  await expect(ben.page.getByText('Can you hear me?')).toBeVisible();
  await shot(ada.page, 'call-chat-light-1280');

  await ben.page.getByRole('button', { name: 'Share screen' }).click();
  await expect(ada.page.getByText('Screen of Ben')).toBeVisible({ timeout: 20_000 });
  await showsPicture(ada.page, 'Screen of Ben');
  await shot(ada.page, 'call-screen-light-1280');
  await ben.page.getByRole('button', { name: 'Share screen' }).click();
  await expect(ada.page.getByText('Screen of Ben')).toHaveCount(0);

  await ada.page.getByRole('button', { name: 'Copy link' }).click();
  await expect(ada.page.getByText('Copied')).toBeVisible();
  const link = await ada.page.evaluate(() => navigator.clipboard.readText());
  expect(link).toBe(`${stage.mesh.url}?room=blue`);

  await ben.page.getByRole('button', { name: 'Leave' }).click();
  await expect(ben.page.getByRole('heading', { name: 'Join a room' })).toBeVisible();
  await expect(ben.page.getByLabel('Room', { exact: true })).toHaveValue('blue');
  await expect(ada.page.getByText('Only you')).toBeVisible();
  for (const one of [ada, ben]) {
    expect(one.faults).toEqual([]);
    expect(one.outside).toEqual([]);
  }
});

test('a reload returns to the call', async () => {
  const ada = await open('?room=green');
  const ben = await open('?room=green');
  await join(ada.page, 'Ada');
  await join(ben.page, 'Ben');
  await showsPicture(ada.page, 'Ben');
  await ben.page.reload();
  await expect(ben.page.getByRole('toolbar', { name: 'Call' })).toBeVisible();
  await showsPicture(ben.page, 'Ada');
  await showsPicture(ada.page, 'Ben');
  await expect(ada.page.getByText('2 people')).toBeVisible();
});

test('a token opens the door too, and a bad one says so', async () => {
  const token = await stage.mesh.token('red', 'ada', 'Ada');
  const good = await open(`?token=${encodeURIComponent(token)}`);
  await expect(good.page.getByText('For the room “red”, as Ada.')).toBeVisible();
  await good.page.getByRole('button', { name: 'Join' }).click();
  await expect(good.page.getByRole('heading', { name: 'red' })).toBeVisible();

  const bad = await open('?token=not.a.token');
  await bad.page.getByRole('button', { name: 'Join' }).click();
  await expect(bad.page.getByRole('alert')).toContainText('did not accept the token');
});

test('devices that are refused or missing are spoken of', async () => {
  const refuse = (name: string) => `navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('no', '${name}'));`;
  for (const [name, words] of [['NotAllowedError', 'is blocked for this page'], ['NotFoundError', 'was found']] as const) {
    const context = await stage.context();
    const page = await context.newPage();
    await page.addInitScript(refuse(name));
    await page.goto(stage.mesh.url);
    await expect(page.getByText(words).first()).toBeVisible();
    await page.getByLabel('Room', { exact: true }).fill(`none-${name}`);
    await join(page, 'Ada');
    await expect(page.getByText('Only you')).toBeVisible();
  }
});

test('the keyboard reaches everything', async () => {
  const { page } = await open('?room=keys');
  // The first thing to be told is where one types.
  await expect(page.getByLabel('Your name')).toBeFocused();
  await page.keyboard.type('Ada');
  await page.keyboard.press('Enter');
  await expect(page.getByRole('toolbar', { name: 'Call' })).toBeVisible();
  const reached = new Set<string>();
  for (let step = 0; step < 12; step += 1) {
    await page.keyboard.press('Tab');
    reached.add(await page.evaluate(() => document.activeElement?.getAttribute('aria-label') ?? document.activeElement?.textContent ?? ''));
  }
  for (const name of ['Microphone', 'Camera', 'Share screen', 'Chat', 'Devices', 'Leave']) {
    expect([...reached].some((it) => it.includes(name)), `${name} of ${[...reached].join(', ')}`).toBe(true);
  }
});

for (const colorScheme of ['light', 'dark'] as const) {
  for (const size of SIZES) {
    test(`fits ${size.width} px, ${colorScheme}`, async () => {
      const room = `fit-${colorScheme}-${size.width}`;
      const ada = await open(`?room=${room}&name=Ada`, { ...size, colorScheme });
      await expect(ada.page.locator('.frame video')).toBeVisible();
      await noOverflow(ada.page);
      await shot(ada.page, `lobby-${colorScheme}-${size.width}`);
      const ben = await open(`?room=${room}&name=Bartholomew%20Featherstonehaugh`);
      await join(ben.page, 'Bartholomew Featherstonehaugh');
      await join(ada.page, 'Ada');
      await showsPicture(ada.page, 'Bartholomew');
      await noOverflow(ada.page);
      await shot(ada.page, `call-${colorScheme}-${size.width}`);
    });
  }
}

async function noOverflow(page: Page): Promise<void> {
  const [content, view] = await page.evaluate(() => [document.documentElement.scrollWidth, window.innerWidth]);
  expect(content).toBeLessThanOrEqual(view);
}

async function shot(page: Page, name: string): Promise<void> {
  await page.screenshot({ path: test.info().outputPath(`${name}.png`) });
}
