// The operator's page: over a mesh that is broken and drained, behind a token, and with meshes of any size.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { type Page, expect, test } from '@playwright/test';

import { seriousFindings } from './harness/axe';
import { Cluster } from './harness/cluster';
import { Mesh } from './harness/mesh';
import { freePorts } from './harness/ports';
import { Scene } from './harness/scene';
import { type SyntheticMesh, show, sixtyNodes, threeNodes } from './harness/synthetic';

const TOKEN = '9b1e6f2c7d4a8053b9e1c6f2d7a48350';
const PATIENCE = 30_000;

interface Options {
  width?: number;
  height?: number;
  colorScheme?: 'light' | 'dark';
  mesh?: SyntheticMesh;
  token?: string;
}

interface Opened {
  page: Page;
  /** What the policy or the code refuses. */
  faults: string[];
  requests: string[];
}

async function open(stage: Scene, url: string, { width = 1280, height = 800, colorScheme = 'light', mesh, token }: Options = {}): Promise<Opened> {
  const context = await stage.context({ viewport: { width, height }, colorScheme, reducedMotion: 'reduce' });
  if (mesh) await show(context, mesh);
  if (token) await context.addInitScript((it) => sessionStorage.setItem('pipemesh.admin-token', it), token);
  const page = await context.newPage();
  const faults: string[] = [];
  page.on('pageerror', (error) => faults.push(`uncaught: ${error.message}`));
  page.on('console', (message) => {
    // What an answer's status is, the page itself says.
    if (message.type() === 'error' && !message.text().startsWith('Failed to load resource')) faults.push(message.text());
  });
  await page.addInitScript(() => {
    document.addEventListener('securitypolicyviolation', (event) => {
      // eslint-disable-next-line no-console -- this is how the page tells the test
      console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`);
    });
  });
  const requests: string[] = [];
  page.on('request', (request) => requests.push(request.url()));
  await page.goto(url);
  return { page, faults, requests };
}

async function accessible(page: Page): Promise<void> {
  expect(await seriousFindings(page)).toEqual([]);
}

async function noOverflow(page: Page): Promise<void> {
  const [content, view] = await page.evaluate(() => [document.documentElement.scrollWidth, window.innerWidth]);
  expect(content).toBeLessThanOrEqual(view);
}

/** All of the page, and its upper part alone at the size of the window. */
async function shot(page: Page, name: string): Promise<void> {
  const size = page.viewportSize();
  const height = await page.evaluate(() => document.documentElement.scrollHeight);
  await page.evaluate(() => window.scrollTo(0, 0));
  await page.screenshot({ path: test.info().outputPath(`${name}.png`) });
  if (!size || height <= size.height) return;
  await page.setViewportSize({ width: size.width, height });
  await drawn(page);
  await page.screenshot({ path: test.info().outputPath(`${name}-all.png`) });
  await page.setViewportSize(size);
}

/** The picture is as wide as its place. */
async function drawn(page: Page): Promise<void> {
  const widths = () => page.evaluate(() => [...document.querySelectorAll('.picture')].map((it) => [it.clientWidth, it.querySelector('svg')?.clientWidth ?? 0]));
  await expect.poll(async () => (await widths()).every(([place, picture]) => place === picture), { message: 'the picture is drawn' }).toBe(true);
}

const node = (page: Page, id: string) => page.getByRole('group', { name: 'Nodes', exact: true }).getByRole('button', { name: new RegExp(`^${id},`) });
const row = (page: Page, id: string) => page.getByRole('table', { name: 'Nodes' }).getByRole('row', { name: new RegExp(`^${id}\\b`) });
/** After its state and its load. */
const peopleOn = (page: Page, id: string) => row(page, id).getByRole('cell').nth(2);

test.describe('over a mesh', () => {
  const NODES = [
    { id: 'node-a', region: 'here' },
    { id: 'node-b', region: 'here' },
    { id: 'node-c', region: 'there' },
  ];
  let cluster: Cluster;
  let stage: Scene;

  test.beforeEach(async () => {
    test.setTimeout(180_000);
    stage = new Scene();
    const formed = Cluster.form(NODES);
    await stage.start(formed);
    cluster = await formed;
  });
  test.afterEach(async () => {
    await stage.clear(test.info().status !== test.info().expectedStatus);
    await stage.stop();
  });

  test('a call is seen, a node drains and serves again, and one dies', async () => {
    const { page, faults, requests } = await open(stage, `${cluster.adminUrl}/mesh`);
    for (const { id } of NODES) await expect(node(page, id)).toHaveAccessibleName(/, serving/);

    cluster.regions.set('ben', 'there');
    const [ada, ben] = await stage.people('blue', ['ada', 'ben']);
    if (!ada || !ben) throw new Error('nobody has come');
    await ben.sees('ada');
    // One, or two while a track changes its way.
    const used = page.getByRole('button', { name: /^Pipe between node-[ab] and node-c, good, .* [1-9]\d* tracks?$/ });
    await expect(used.first()).toBeAttached({ timeout: PATIENCE });
    await shot(page, 'mesh-live');

    await page.getByRole('link', { name: 'Rooms' }).click();
    await page.getByRole('link', { name: /^blue/ }).click();
    const people = page.getByRole('table', { name: 'People of the room' });
    await expect(people.getByRole('row', { name: /^ada .*The ring names this node first for the room/ })).toBeVisible();
    await expect(people.getByRole('row', { name: /^ben node-c .*their token names the region/ })).toBeVisible();
    // A picture for each way: sound and picture of one person may come over different nodes of a region.
    await expect(page.getByRole('img', { name: /^From node-[ab] to .*node-c/ }).first()).toBeVisible();
    await expect(page.getByRole('img', { name: /^From node-c to .*node-[ab]/ }).first()).toBeVisible();
    await page.getByText('Where somebody would go now').click();
    await expect(page.getByText(/^To node-[ab]: the room is at home there\.$/)).toBeVisible();
    await shot(page, 'room-live');
    const { members } = await cluster.room('blue');
    const from = members.find(({ identity }) => identity === 'ada')?.node ?? 'nowhere';
    const to = from === 'node-a' ? 'node-b' : 'node-a';

    await page.getByRole('link', { name: 'Mesh', exact: true }).click();
    await row(page, from).getByRole('button', { name: `Drain ${from}` }).click();
    const dialog = page.getByRole('dialog', { name: `Drain ${from}?` });
    await expect(dialog.getByText('It takes nobody new')).toBeVisible();
    await dialog.getByRole('button', { name: 'Cancel' }).click();
    await expect(dialog).toHaveCount(0);
    await expect(row(page, from).getByRole('button', { name: `Drain ${from}` })).toBeFocused();
    await expect(node(page, from)).toHaveAccessibleName(/, serving/);
    await page.keyboard.press('Enter');
    await dialog.getByRole('button', { name: `Drain ${from}` }).click();
    await expect(dialog).toHaveCount(0);
    await expect(node(page, from)).toHaveAccessibleName(/, draining/);
    await expect(page.getByText('1 draining')).toBeVisible();
    // Who was there has moved.
    await expect(peopleOn(page, to)).toHaveText('1', { timeout: PATIENCE });
    await expect(peopleOn(page, from)).toHaveText('0', { timeout: PATIENCE });
    await ben.sees('ada');
    await row(page, from).getByRole('button', { name: `Undrain ${from}` }).click();
    await page.getByRole('dialog').getByRole('button', { name: `Undrain ${from}` }).click();
    await expect(node(page, from)).toHaveAccessibleName(/, serving/);

    await cluster.node(from).kill();
    await expect(node(page, from)).toHaveAccessibleName(/, (not reached|gone)/);
    await expect(row(page, from).getByRole('button', { name: /rain/ })).toHaveCount(0);
    await expect(page.getByRole('region', { name: 'Lately' }).getByText(from).first()).toBeVisible();
    await shot(page, 'mesh-after-a-death');
    expect(faults).toEqual([]);
    const outside = requests.filter((url) => !url.startsWith(`${cluster.adminUrl}/`));
    expect(outside).toEqual([]);
  });
});

test('the mesh in one process has the page, too, for this machine alone', async () => {
  const [port] = await freePorts(1);
  const mesh = await Mesh.start(['--admin-listen', `127.0.0.1:${port}`]);
  try {
    const url = `http://127.0.0.1:${port}`;
    expect(mesh.log).toContain(`mesh:  ${url}/mesh`);
    const status = async (path: string, headers: Record<string, string> = {}) => (await fetch(`${url}${path}`, { headers })).status;
    expect(await status('/mesh')).toBe(200);
    expect(await status('/nodes')).toBe(200);
    expect(await status('/nodes', { Origin: url })).toBe(200);
    expect(await status('/nodes', { Origin: mesh.origin })).toBe(403);
  } finally {
    await mesh.stop();
  }
});

test.describe('behind a token', () => {
  const stage = new Scene();
  let folder: string;
  let url: string;

  test.beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'pipemesh-admin-'));
    const [port] = await freePorts(1);
    const file = join(folder, 'token');
    writeFileSync(file, TOKEN, { mode: 0o600 });
    await stage.start(Mesh.startApart(['--admin-listen', `127.0.0.1:${port}`, '--admin-token-file', file]));
    url = `http://127.0.0.1:${port}/mesh`;
  });
  test.afterEach(() => stage.clear(test.info().status !== test.info().expectedStatus));
  test.afterAll(async () => {
    await stage.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  test('the page is light, strict, and not where clients come', async () => {
    const answer = await fetch(url);
    const policy = answer.headers.get('content-security-policy') ?? '';
    expect(policy).toContain("default-src 'none'");
    expect(policy).toContain("connect-src 'self'");
    expect(policy).toContain("frame-ancestors 'none'");
    expect(policy).not.toMatch(/unsafe|\*|data:|blob:/);
    expect((await fetch(new URL('/mesh', stage.mesh.url))).status).toBe(404);
    expect((await fetch(new URL('/mesh.html', stage.mesh.url))).status).toBe(404);
    const { page, requests } = await open(stage, url);
    await expect(page.getByLabel('Admin token')).toBeVisible();
    const sizes = await page.evaluate(() => {
      const entries = [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')];
      return entries.map((it) => [it.name, (it as PerformanceResourceTiming).transferSize] as const);
    });
    const files = sizes.filter(([name]) => !name.endsWith('/nodes') && !name.endsWith('/pipes'));
    expect(files.length, JSON.stringify(sizes)).toBeGreaterThanOrEqual(3);
    const bytes = files.reduce((all, [, size]) => all + size, 0);
    expect(bytes, JSON.stringify(sizes)).toBeLessThan(150_000);
    expect(requests.some((request) => request.includes('livekit'))).toBe(false);
  });

  test('a wrong token is said to be, the right one is kept in the tab alone', async () => {
    const { page, faults } = await open(stage, url);
    const field = page.getByLabel('Admin token');
    await expect(field).toBeFocused();
    await accessible(page);
    await shot(page, 'door-light');
    await page.keyboard.type('with space');
    await page.keyboard.press('Enter');
    await expect(page.getByRole('alert')).toContainText('neither spaces nor');
    await field.fill('wrong');
    await page.keyboard.press('Enter');
    await expect(page.getByRole('alert')).toContainText('That token is wrong');
    await field.fill(TOKEN);
    await page.keyboard.press('Enter');
    await expect(node(page, 'node-a')).toBeVisible();
    expect(page.url()).not.toContain(TOKEN);
    expect(await page.evaluate(() => [localStorage.length, document.cookie])).toEqual([0, '']);
    await page.reload();
    await expect(node(page, 'node-a')).toBeVisible();
    await page.getByRole('button', { name: 'Forget the token' }).click();
    await expect(field).toBeVisible();
    expect(await page.evaluate(() => sessionStorage.length)).toBe(0);
    expect(faults).toEqual([]);
  });

  test('a process that does not answer is spoken of, and so is how old the picture is', async () => {
    const { page } = await open(stage, url, { token: TOKEN });
    await expect(node(page, 'node-a')).toBeVisible();
    let asked = 0;
    await page.route('**/nodes', (route) => {
      asked += 1;
      return route.abort();
    });
    await expect(page.getByRole('alert')).toContainText('nobody answers');
    await expect(page.getByText(/What is shown is \d+\ss old/)).toBeVisible();
    await expect(node(page, 'node-a')).toBeVisible();
    await accessible(page);
    await shot(page, 'stale-light');
    // While it would not be asked by itself for longer than we wait.
    await expect(page.getByText(/It is asked again in ([78]|1\d)\ss/)).toBeVisible({ timeout: PATIENCE });
    const before = asked;
    await page.getByRole('button', { name: 'Ask now' }).click();
    await expect.poll(() => asked, { timeout: 4000 }).toBeGreaterThan(before);
    await expect(page.getByText(/It is asked again in 1[345]\ss/)).toBeVisible({ timeout: PATIENCE });
    await page.unroute('**/nodes');
    await page.getByRole('button', { name: 'Ask now' }).click();
    await expect(page.getByRole('alert')).toHaveCount(0, { timeout: 8000 });

    // Pipes alone: what is said of nodes is the present.
    const faded = (where: string) => page.locator(where).first().evaluate((it) => getComputedStyle(it).filter !== 'none');
    await page.route('**/pipes', (route) => route.abort());
    await expect(page.getByRole('alert')).toContainText(/^Pipes: .*nobody answers/);
    await expect(page.getByText('No answer about pipes')).toBeVisible();
    expect(await faded('.picture')).toBe(false);
    await page.getByRole('tab', { name: 'Pipes' }).click();
    expect(await faded('.panel')).toBe(true);
    await accessible(page);
    await shot(page, 'stale-pipes-light');
    await page.unroute('**/pipes');
    await page.getByRole('button', { name: 'Ask now' }).click();
    await expect(page.getByRole('alert')).toHaveCount(0, { timeout: 8000 });

    await page.route('**/nodes', (route) => route.fulfill({ status: 200, body: '<html>a proxy</html>' }));
    await page.reload();
    await expect(page.getByRole('alert')).toContainText('what answers is not the admin API');
    await accessible(page);
    await shot(page, 'unreachable-light');
  });

  test('no question is asked before the last one is answered', async () => {
    const { page } = await open(stage, url, { token: TOKEN });
    await expect(node(page, 'node-a')).toBeVisible();
    let [waiting, most, asked] = [0, 0, 0];
    await page.route('**/nodes', async (route) => {
      asked += 1;
      waiting += 1;
      most = Math.max(most, waiting);
      const answer = await route.fetch();
      // Longer than it pauses between two questions, so that another one would come meanwhile.
      await new Promise((resolve) => setTimeout(resolve, 2500));
      waiting -= 1;
      await route.fulfill({ response: answer });
    });
    await expect.poll(() => asked, { timeout: PATIENCE }).toBeGreaterThan(2);
    expect(most).toBe(1);
  });

  test('the keyboard reaches everything', async () => {
    const { page } = await open(stage, url, { token: TOKEN, mesh: threeNodes() });
    await expect(node(page, 'node-a')).toBeVisible();
    const reached: string[] = [];
    for (let step = 0; step < 40; step += 1) {
      await page.keyboard.press('Tab');
      const name = await page.evaluate(() => document.activeElement?.getAttribute('aria-label') ?? document.activeElement?.textContent ?? '');
      if (step > 0 && name === reached[0]) break;
      reached.push(name);
    }
    for (const name of ['Skip to the tables', 'Mesh', 'Rooms', 'Forget the token', 'Pipe between', 'node-a, eu-west', 'Nodes', 'State', 'Drain node-c']) {
      expect(reached.some((it) => it.startsWith(name)), `${name} of ${reached.join(' | ')}`).toBe(true);
    }
    // Within the picture the arrows go on.
    await node(page, 'node-a').focus();
    await page.keyboard.press('ArrowDown');
    await expect(node(page, 'node-b')).toBeFocused();
    await page.keyboard.press('ArrowRight');
    await expect(node(page, 'node-c')).toBeFocused();
    await page.keyboard.press('Enter');
    await expect(page.getByRole('heading', { name: 'node-c' })).toBeVisible();
    await page.getByRole('button', { name: 'Drain node-c' }).first().focus();
    await page.keyboard.press('Enter');
    await expect(page.getByRole('dialog').getByRole('button', { name: 'Cancel' })).toBeFocused();
    await page.keyboard.press('Escape');
    await expect(page.getByRole('dialog')).toHaveCount(0);
    await page.getByRole('tab', { name: 'Nodes' }).focus();
    await page.keyboard.press('ArrowRight');
    await expect(page.getByRole('tab', { name: 'Pipes' })).toBeFocused();
    await page.getByRole('table', { name: 'Pipes' }).getByRole('button', { name: 'Lost' }).focus();
    await page.keyboard.press('Enter');
    await expect(page.getByRole('table', { name: 'Pipes' }).getByRole('row').nth(1)).toContainText('node-b node-c');
  });

  const MESHES = { 3: threeNodes, 60: sixtyNodes };
  for (const colorScheme of ['light', 'dark'] as const) {
    for (const [width, height] of [[360, 740], [1280, 800], [1920, 1080]] as const) {
      for (const [count, make] of Object.entries(MESHES)) {
        test(`${count} nodes, ${colorScheme}, ${width} px`, async () => {
          const mesh = make();
          const first = mesh.nodes[0]?.id ?? '';
          const { page, faults } = await open(stage, url, { width, height, colorScheme, mesh, token: TOKEN });
          await expect(page.getByRole('group', { name: 'Nodes', exact: true }).getByRole('button')).toHaveCount(mesh.nodes.length);
          await expect(page.getByRole('group', { name: 'Pipes', exact: true }).getByRole('button')).toHaveCount(mesh.pipes.length);
          await noOverflow(page);
          await shot(page, `mesh-${count}-${colorScheme}-${width}`);
          await accessible(page);
          await node(page, first).click();
          await expect(page.getByRole('heading', { name: first })).toBeVisible();
          await accessible(page);
          await noOverflow(page);
          await shot(page, `chosen-${count}-${colorScheme}-${width}`);
          await page.getByRole('link', { name: 'Rooms' }).click();
          await page.getByRole('link', { name: /^town-hall/ }).click();
          await page.getByText('Where somebody would go now').click();
          await expect(page.getByText(/: the room is at home there\.$/)).toBeVisible();
          await noOverflow(page);
          await accessible(page);
          await shot(page, `room-${count}-${colorScheme}-${width}`);
          expect(faults).toEqual([]);
        });
      }
    }
  }

  for (const colorScheme of ['light', 'dark'] as const) {
    test(`pipes, placements and the question before a drain, ${colorScheme}`, async () => {
      const { page, faults } = await open(stage, url, { colorScheme, mesh: threeNodes(), token: TOKEN });
      await page.getByRole('tab', { name: 'Pipes' }).click();
      await page.getByRole('button', { name: /^Pipe between node-b and node-c/ }).press('Enter');
      await expect(page.getByRole('table', { name: 'Each way' })).toBeVisible();
      await accessible(page);
      await shot(page, `pipes-${colorScheme}`);
      await page.getByRole('tab', { name: 'Placements' }).click();
      await expect(page.getByRole('table', { name: 'Placements' })).toBeVisible();
      await accessible(page);
      await shot(page, `placements-${colorScheme}`);
      await page.getByRole('tab', { name: 'Nodes' }).click();
      await row(page, 'node-c').getByRole('button', { name: 'Drain node-c' }).click();
      await expect(page.getByText('No other node of us-east serves')).toBeVisible();
      await page.route('**/nodes/node-c/drain', (route) => route.fulfill({ status: 502, json: { error: 'the node does not answer' } }));
      await page.getByRole('dialog').getByRole('button', { name: 'Drain node-c' }).click();
      await expect(page.getByRole('alert')).toContainText('the node does not answer');
      await accessible(page);
      await shot(page, `drain-${colorScheme}`);
      expect(faults).toEqual([]);
    });
  }
});
