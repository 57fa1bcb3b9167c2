// A call over three nodes in two regions, each a process of its own: everybody sees, hears and is heard by
// everybody, through pipes between the nodes.

import { expect, test } from '@playwright/test';

import { Cluster } from './harness/cluster';
import type { Peer } from './harness/peer';
import { Scene } from './harness/scene';
import { until } from './harness/wait';

/** One person on each node: two of a region are on different ones. */
const NODES = [
  { id: 'node-a', region: 'here', limit: 1 },
  { id: 'node-b', region: 'there', limit: 1 },
  { id: 'node-c', region: 'there', limit: 1 },
];
const ROOM = 'spread';

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

for (const single of [true, false]) {
  test(`everybody is with everybody, ${single ? 'one peer connection' : 'two peer connections'}`, async () => {
    const [ada, ben, cleo] = await three(single);
    const people = [ada, ben, cleo];
    expect((await cluster.room(ROOM)).homes).toHaveLength(3);
    for (const one of people) {
      for (const other of people.filter((it) => it !== one)) {
        await one.sees(other.identity);
        await one.hears(other.identity);
      }
    }
    // Each node takes four tracks; to the other region each of ada's goes once.
    const taken = (id: string) => cluster.nodeMetric(id, 'pipemesh_pipe_tracks', 'direction="in"');
    expect(await Promise.all(NODES.map(({ id }) => taken(id)))).toEqual([4, 4, 4]);
    expect(await cluster.nodeMetric('node-a', 'pipemesh_pipe_tracks', 'direction="out"')).toBe(2);

    // Layers follow what one receiver wants, and only that crosses.
    await ben.call('setQuality', 'ada', 'low');
    await ben.seesSize('ada', ({ frameWidth }) => frameWidth === 320, 'in the lowest quality');
    await cleo.sees('ada');
    await ben.call('setQuality', 'ada', 'high');
    await ben.seesSize('ada', ({ frameWidth }) => frameWidth === 640, 'in full size');

    await ada.call('publishScreen');
    for (const one of [ben, cleo]) await one.sees('ada', 'screen_share', 5);
    await ada.call('unpublish', 'screen_share');
    for (const one of [ben, cleo]) {
      await one.notices('the end of the screen', (it) => it.kind === 'unsubscribed' && it.source === 'screen_share');
    }

    await cleo.call('setMuted', 'camera', true);
    await ada.notices('the camera muted', (it) => it.kind === 'muted' && it.identity === 'cleo' && it.source === 'camera');
    await cleo.call('setMuted', 'camera', false);
    await ada.sees('cleo');

    for (const [from, to] of [[ada, cleo], [cleo, ada], [ben, cleo]] as const) {
      for (const reliable of [true, false]) {
        const topic = `${from.identity}-${to.identity}-${reliable}`;
        await from.call('sendWords', 'hello over there', { reliable, topic });
        await to.notices(`a message of ${from.identity}`, (it) => it.kind === 'data' && it.topic === topic && it.from === from.identity);
      }
    }
    for (const one of people) {
      const happenings = await one.call('happenings');
      expect(happenings.filter(({ kind }) => kind === 'restarting' || kind === 'resuming')).toEqual([]);
    }
  });
}

test('who leaves is gone for those on other nodes, and who comes back is there again', async () => {
  const [ada, ben, cleo] = await three(true);
  await ben.sees('ada');
  await ada.call('leave');
  for (const one of [ben, cleo]) await one.notices('ada gone', (it) => it.kind === 'left' && it.identity === 'ada');
  const given = () => cluster.nodeMetric('node-a', 'pipemesh_pipe_tracks', 'direction="out"');
  await until(10_000, 'nothing to be given any more', async () => (await given()) === 0);
  const again = await stage.peer(ROOM, 'ada');
  await again.enter(true);
  for (const one of [ben, cleo]) await one.sees('ada');
  await again.hears('cleo');
});

async function three(single: boolean): Promise<[Peer, Peer, Peer]> {
  for (const { identity, region } of [{ identity: 'ada', region: 'here' }, { identity: 'ben', region: 'there' }, { identity: 'cleo', region: 'there' }]) {
    cluster.regions.set(identity, region);
  }
  const [ada, ben, cleo] = await stage.people(ROOM, ['ada', 'ben', 'cleo'], single);
  if (!ada || !ben || !cleo) throw new Error('there are three');
  return [ada, ben, cleo];
}
