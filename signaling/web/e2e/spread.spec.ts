// A call of three people on three nodes, each of a region, from the lobby to the end by keyboard alone.

import { expect, test } from '@playwright/test';

import { Cluster } from './harness/cluster';
import { scene } from './harness/scene';
import { inCall, showsPicture, tabTo, tile, visit } from './harness/visit';

const PEOPLE = [
  { name: 'Ada', region: 'here' },
  { name: 'Ben', region: 'there' },
  { name: 'Cem', region: 'far' },
];

let cluster: Cluster;
const stage = scene([], async () => (cluster = await Cluster.form(PEOPLE.map(({ region }) => ({ id: `node-${region}`, region })))));

test('three people on three nodes meet and leave by keyboard alone', async () => {
  test.setTimeout(180_000);
  const visits = [];
  for (const { name, region } of PEOPLE) {
    const { page } = await visit(stage, `?room=spread&region=${region}`);
    await expect(page.getByLabel('Your name')).toBeFocused();
    await page.keyboard.type(name);
    await tabTo(page, 'Join');
    await page.keyboard.press('Enter');
    await inCall(page);
    visits.push({ page, name });
  }
  for (const { page, name } of visits) {
    for (const other of PEOPLE) if (other.name !== name) await showsPicture(page, other.name);
  }
  const { members } = await cluster.room('spread');
  expect(members.map(({ node }) => node).sort()).toEqual(PEOPLE.map(({ region }) => `node-${region}`).sort());
  const [first, ...others] = visits;
  if (!first) throw new Error('nobody came');
  await first.page.keyboard.press('m');
  for (const { page } of others) await expect(tile(page, first.name).getByRole('img', { name: 'muted' })).toBeVisible();
  for (const { page } of visits) {
    await tabTo(page, 'Leave');
    await page.keyboard.press('Enter');
    await expect(page.getByRole('heading', { name: 'Join a room' })).toBeVisible();
  }
});
