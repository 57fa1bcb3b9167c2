// A node dies that people are not on themselves: one that only passes a track on, and one that a track comes
// from. Those who watch elsewhere join nothing anew.

import { setTimeout as delay } from 'node:timers/promises';

import { expect, test } from '@playwright/test';

import { heard, longestGap, merged } from './harness/arrivals';
import { Cluster } from './harness/cluster';
import { figure } from './harness/figures';
import type { Peer } from './harness/peer';
import { Scene } from './harness/scene';
import { until } from './harness/wait';

const NODES = [
  { id: 'node-a', region: 'here' },
  { id: 'node-b', region: 'here' },
  { id: 'node-c', region: 'there' },
  { id: 'node-d', region: 'there' },
  { id: 'node-e', region: 'there' },
];
const ROOM = 'relayed';
const PATIENCE = 30_000;
const A_WHILE = 2000;
/** Tracks that are published at most until one is passed on by a node that nobody is on. */
const TRIES = 20;

/** Beside other work no time says anything of the mesh. */
const IS_ALONE = process.env.PIPEMESH_CHAOS_FIGURES !== undefined;
const FREEZE_OF_GATEWAY = 1500;

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

test('who watches over a gateway that is killed sees a short freeze and nothing else', async () => {
  const [ada, ben] = [await enters('ada', 'here'), await enters('ben', 'there')];
  const gateway = await passedOn(ada, ben);
  await ada.call('publishMicrophone');
  await flows(ben, 'ada');
  await delay(A_WHILE);

  const killed = Date.now();
  await cluster.node(gateway).kill();
  await delay(A_WHILE);
  await flows(ben, 'ada');
  const window = { from: killed, to: Date.now() };
  const arrivals = await ben.call('arrivals', killed - A_WHILE);
  const [video, audio] = [longestGap(merged(arrivals, 'video'), window), longestGap(merged(arrivals, 'audio'), window)];
  figure('browser_gateway_kill_video_freeze', video, 'ms');
  figure('browser_gateway_kill_audio_gap', audio, 'ms');
  if (IS_ALONE) expect(video).toBeLessThan(FREEZE_OF_GATEWAY);
  for (const one of [ada, ben]) await noticedNothing(one);
});

test('when the node of a publisher is killed, those elsewhere see it again without joining anew', async () => {
  const [ada, ben] = [await enters('ada', 'here'), await enters('ben', 'there')];
  await ada.call('publishMicrophone');
  await ada.call('publishDrawing', 320, 180, 10);
  await ben.call('publishMicrophone');
  await Promise.all([flows(ben, 'ada'), flows(ada, 'ben', ['audio'])]);
  const before = await ada.call('self');
  const killed = Date.now();
  await cluster.node(before.node).kill();
  await ada.notices('being back', (it) => it.kind === 'reconnected' && it.at > killed);
  await Promise.all([flows(ben, 'ada'), flows(ada, 'ben', ['audio'])]);

  const after = await ada.call('self');
  expect(after.sid).toBe(before.sid);
  expect(after.node).not.toBe(before.node);
  const window = { from: killed, to: Date.now() };
  const arrivals = await ben.call('arrivals', killed - A_WHILE);
  figure('browser_origin_kill_video_gap', longestGap(merged(arrivals, 'video'), window), 'ms');
  figure('browser_origin_kill_audio_gap', longestGap(merged(arrivals, 'audio'), window), 'ms');
  await noticedNothing(ben);
});

async function enters(name: string, region: string): Promise<Peer> {
  cluster.regions.set(name, region);
  const one = await stage.peer(ROOM, name);
  await one.call('watch');
  await one.join();
  return one;
}

/** Publishes until what one sees of the other is passed on by a node that nobody is on, and answers which. */
async function passedOn(publisher: Peer, watcher: Peer): Promise<string> {
  const { node } = await watcher.call('self');
  const others = NODES.filter(({ id, region }) => region === 'there' && id !== node).map(({ id }) => id);
  for (let tries = 0; tries < TRIES; tries += 1) {
    await publisher.call('publishDrawing', 320, 180, 10);
    await flows(watcher, publisher.identity, ['video']);
    const given = await Promise.all(others.map((id) => cluster.nodeMetric(id, 'pipemesh_pipe_tracks', 'direction="out"')));
    const gateway = others.find((_, index) => given[index] === 1);
    if (gateway) return gateway;
    const since = Date.now();
    await publisher.call('unpublish', 'camera');
    await watcher.notices('the end of the picture', (it) => it.kind === 'unsubscribed' && it.at > since);
  }
  throw new Error(`${TRIES} tracks, none of which another node passes on`);
}

async function flows(watcher: Peer, from: string, kinds: ('audio' | 'video')[] = ['audio', 'video']): Promise<void> {
  await until(PATIENCE, `${watcher.identity} to get ${kinds.join(' and ')} of ${from}`, async () => {
    const since = Date.now() - 500;
    const arrivals = await watcher.call('arrivals', since);
    return kinds.every((kind) => heard(arrivals, kind, since).size === 1);
  });
}

async function noticedNothing(one: Peer): Promise<void> {
  const unwanted = ['left', 'resuming', 'restarting', 'disconnected'];
  const noticed = (await one.call('happenings')).filter(({ kind }) => unwanted.includes(kind));
  expect(noticed, `what ${one.identity} noticed`).toEqual([]);
}
