// The web client as somebody has it open: a page that tells of all that goes wrong on it, and how it looks.

import { type BrowserContext, type Locator, type Page, expect, test } from '@playwright/test';

import { seriousFindings } from './axe';
import type { Scene } from './scene';
import { until } from './wait';

const PHONE = { width: 360, height: 740 };
const LAPTOP = { width: 1280, height: 800 };
const SCREEN = { width: 1920, height: 1080 };
const SCHEMES = ['light', 'dark'] as const;

export interface Visit {
  page: Page;
  context: BrowserContext;
  /** What the policy or the code refused. */
  faults: string[];
  /** All that the page has said, for a failure's report. */
  said: string[];
  /** What was asked of others than the mesh. */
  outside: string[];
}

interface Options {
  /** Runs in the page before anything else. */
  before?: string;
  viewport?: { width: number; height: number };
}

export async function visit(stage: Scene, query: string, { before, viewport = LAPTOP }: Options = {}): Promise<Visit> {
  const context = await stage.context({ viewport, colorScheme: 'light' });
  await context.grantPermissions(['clipboard-read', 'clipboard-write'], { origin: stage.mesh.origin });
  const page = await context.newPage();
  const faults: string[] = [];
  page.on('pageerror', (error) => faults.push(`uncaught: ${error.message}`));
  const said: string[] = [];
  page.on('console', (message) => {
    said.push(`${message.type()}: ${message.text()}`.slice(0, 300));
    if (message.type() === 'error') faults.push(message.text());
  });
  await page.addInitScript(() => {
    document.addEventListener('securitypolicyviolation', (event) => {
      // eslint-disable-next-line no-console -- this is how the page tells the test
      console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`);
    });
  });
  if (before) await page.addInitScript({ content: before });
  const outside: string[] = [];
  page.on('request', (request) => {
    const url = new URL(request.url());
    if (url.protocol.startsWith('http') && url.origin !== stage.mesh.origin) outside.push(request.url());
  });
  await page.goto(`${stage.mesh.url}${query}`);
  return { page, context, faults, said, outside };
}

export async function join(page: Page, name: string): Promise<void> {
  await page.getByLabel('Your name').fill(name);
  await page.getByRole('button', { name: 'Join' }).click();
  await inCall(page);
}

export async function inCall(page: Page): Promise<void> {
  await expect(page.getByRole('toolbar', { name: 'Call' })).toBeVisible({ timeout: 20_000 });
}

export function tile(page: Page, name: string): Locator {
  return page.locator('figure', { hasText: name });
}

/** The tile of a person shows a picture that moves. */
export async function showsPicture(page: Page, name: string): Promise<void> {
  const video = tile(page, name).locator('video');
  const frames = () => video.evaluate((element) => (element as HTMLVideoElement).getVideoPlaybackQuality().totalVideoFrames);
  await expect(video).toBeVisible({ timeout: 20_000 });
  const first = await frames();
  await until(20_000, `a moving picture of ${name}`, async () => (await frames()) > first + 3);
}

/** Goes on with the key that goes on, until it is where it says so. */
export async function tabTo(page: Page, name: string | RegExp): Promise<void> {
  const passed: string[] = [];
  for (let step = 0; step < 60; step += 1) {
    await page.keyboard.press('Tab');
    const at = await page.evaluate(() => {
      const element = document.activeElement;
      // Past the last one: all of the page.
      if (element === document.body) return '';
      const labelled = element instanceof HTMLInputElement ? [...(element.labels ?? [])].map((label) => label.textContent).join(' ') : '';
      return element?.getAttribute('aria-label') ?? (labelled || (element?.textContent ?? ''));
    });
    if (typeof name === 'string' ? at.includes(name) : name.test(at)) return;
    passed.push(at);
  }
  throw new Error(`the keyboard does not reach ${String(name)}: ${passed.join(' | ')}`);
}

/** A state that lasts only a moment, as `portray` does it, but in one size. */
export async function glance(page: Page, name: string): Promise<void> {
  return portray(page, name, [LAPTOP]);
}

/** Pictures of a page in every size, light and dark; nothing sticks out of it, and axe finds nothing serious. */
export async function portray(page: Page, name: string, sizes = [PHONE, LAPTOP, SCREEN]): Promise<void> {
  const before = page.viewportSize() ?? LAPTOP;
  const problems: string[] = [];
  for (const colorScheme of SCHEMES) {
    await page.emulateMedia({ colorScheme });
    for (const size of sizes) {
      await page.setViewportSize(size);
      const at = `${name}-${colorScheme}-${size.width}`;
      await settled(page);
      await page.screenshot({ path: test.info().outputPath(`${at}.png`) });
      const [content, view] = await page.evaluate(() => [document.documentElement.scrollWidth, window.innerWidth] as const);
      if (content > view) problems.push(`${at}: ${content} px wide`);
      if (size === SCREEN) continue;
      problems.push(...(await seriousFindings(page)).map((finding) => `${at}: ${finding}`));
    }
  }
  await page.emulateMedia({ colorScheme: 'light' });
  await page.setViewportSize(before);
  // Softly: the other states are to be seen as well.
  expect.soft(problems).toEqual([]);
}

/** Drawn in its new size, and with its transitions behind it. */
async function settled(page: Page): Promise<void> {
  await page.evaluate(async () => {
    const frame = () => new Promise((resolve) => requestAnimationFrame(resolve));
    await frame();
    await frame();
    await Promise.allSettled(document.getAnimations().map(({ finished }) => finished));
    await frame();
  });
}
