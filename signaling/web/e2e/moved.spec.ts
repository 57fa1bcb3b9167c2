// A page in a call whose node drains: it says that it was moved, and the call goes on.

import { type Page, expect, test } from '@playwright/test';

import { Cluster } from './harness/cluster';
import { scene } from './harness/scene';
import { glance, inCall, join, portray, showsPicture, tile, visit } from './harness/visit';

/** What the mesh says is sent to whoever has this page. */
async function ways(page: Page): Promise<string> {
  const identity = (await page.locator('figure', { hasText: '(you)' }).getAttribute('data-identity')) ?? '';
  const token = await cluster.token('moved', identity);
  const answer = await fetch(`${cluster.url}rooms/moved/paths`, { headers: { authorization: `Bearer ${token}` } });
  return answer.text();
}

let cluster: Cluster;
const stage = scene([], async () => (cluster = await Cluster.form()));

test('whoever is moved is told so, and everybody stays', async () => {
  test.setTimeout(120_000);
  const ada = await visit(stage, '?room=moved');
  await join(ada.page, 'Ada');
  const ben = await visit(stage, '?room=moved');
  await join(ben.page, 'Ben');
  await showsPicture(ada.page, 'Ben');
  const { homes } = await cluster.room('moved');
  const other = homes[0] === 'node-a' ? 'node-b' : 'node-a';

  // Nobody is seen to leave meanwhile.
  await ada.page.evaluate(() => {
    const seen = new Set<string>();
    const note = () => {
      const people = document.querySelectorAll('figure[data-source=camera]').length;
      if (people !== 2) seen.add(`${people} tiles`);
    };
    new MutationObserver(note).observe(document.body, { subtree: true, childList: true });
    Object.assign(window, { seen });
  });
  await cluster.drain(homes[0]);
  const words = `You were moved to another server, ${other} in here. The call goes on.`;
  // Each is told for a while from their own move on.
  const told = [ada, ben].map(({ page }) => expect(page.getByText(words)).toBeVisible({ timeout: 30_000 }));
  await Promise.all(told);
  await glance(ada.page, 'call-moved');
  for (const [one, other] of [[ada, 'Ben'], [ben, 'Ada']] as const) {
    await showsPicture(one.page, other).catch(async (error: unknown) => {
      const paths = `${await ways(one.page)}\n${JSON.stringify(await cluster.room('moved'))}`;
      throw new Error(`${String(error)}\n${await one.page.locator('body').ariaSnapshot()}\n${paths}\n${[...ada.said.slice(-30), '---', ...ben.said.slice(-30)].join('\n')}`, { cause: error });
    });
  }
  expect(await ada.page.evaluate(() => [...(window as unknown as { seen: Set<string> }).seen])).toEqual([]);
  await expect(ada.page.getByText(words)).toHaveCount(0, { timeout: 15_000 });
  await inCall(ada.page);
  await expect(tile(ada.page, 'Ben')).toBeVisible();
  await portray(ada.page, 'call-after-move');
});
