// What becomes of a call in real browsers when a part of the mesh dies under it.
//
// What is heard is measured where packets come out of the network (page/arrivals.ts), so a gap is one of the
// mesh and not of a busy page, and a lost packet is known by its number.

import { setTimeout as delay } from 'node:timers/promises';

import { expect, test } from '@playwright/test';

import type { Arrivals } from './page/arrivals';
import type { Happening } from './page/driver';
import { type Window, alive, first, heard, longestGap, merged, missing } from './harness/arrivals';
import { Cluster, type Server } from './harness/cluster';
import { figure, spread } from './harness/figures';
import type { Peer } from './harness/peer';
import { Scene } from './harness/scene';
import { until } from './harness/wait';

/** As many pages as a small machine encodes and decodes for. */
const PEOPLE = Number(process.env.PIPEMESH_CHAOS_PEOPLE ?? 4);
/** How often each node is killed. */
const ROUNDS = Number(process.env.PIPEMESH_CHAOS_ROUNDS ?? 1);
/** How long Redis or Consul is away, in milliseconds. */
const OUTAGE = Number(process.env.PIPEMESH_CHAOS_OUTAGE ?? 8) * 1000;

/** Beside other work no time says anything of the mesh: then all have to be back, however long it takes. */
const IS_ALONE = process.env.PIPEMESH_CHAOS_FIGURES !== undefined;

// What is promised, for all but the slowest twentieth of the people.
const BACK_AFTER_DEATH = 2000;
const BACK_AFTER_SILENCE = 4000;
const GAP_OF_DRAIN = 1000;
const GAP_OF_SIGNALING = 200;
const FULL_FUNCTION = 5000;

const PATIENCE = 30_000;
/** Before and after, what is heard is looked at for so long. */
const A_WHILE = 2000;

const ROOM = 'standup';
const NAMES = ['ada', 'ben', 'cleo', 'dan', 'eve', 'fay', 'gus', 'hal', 'ivy', 'joe'];

let cluster: Cluster;
let stage: Scene;

test.beforeEach(async () => {
  test.setTimeout(150_000 + OUTAGE + ROUNDS * 30_000);
  stage = new Scene();
  const formed = Cluster.form();
  await stage.start(formed);
  cluster = await formed;
});
test.afterEach(async () => {
  await stage.clear(test.info().status !== test.info().expectedStatus);
  await stage.stop();
});

test('nobody notices that a signaling process is killed', async () => {
  const people = await call();
  const before = await Promise.all(people.map((one) => one.call('self')));
  const victim = await cluster.busiest();
  const killed = Date.now();
  await victim.kill();
  const resumed = async () => {
    const [lost, back] = await Promise.all([noticedOf(people, 'resuming'), noticedOf(people, 'reconnected')]);
    return sum(lost) > 0 && lost.every((count, index) => count === back[index]) ? lost : undefined;
  };
  const noticed = await until(PATIENCE, 'those on it to resume', resumed);
  const took = Date.now() - killed;
  await flows(people);
  await delay(A_WHILE);

  const window = { from: killed, to: Date.now() };
  const all = await Promise.all(people.map((one) => one.call('arrivals', killed - A_WHILE)));
  const losses = lostOf(all, window);
  const gaps = all.map((arrivals) => gapOf(arrivals, window));
  figure('browser_signaling_kill_people', PEOPLE, 'count');
  figure('browser_signaling_kill_resumed', noticed.filter((count) => count > 0).length, 'count');
  figure('browser_signaling_kill_all_resumed', took, 'ms');
  figure('browser_signaling_kill_packets_lost', losses, 'count');
  promised(spread('browser_signaling_kill_gap', gaps), GAP_OF_SIGNALING);
  expect(losses, 'packets lost').toBe(0);
  expect(await Promise.all(people.map((one) => one.call('self')))).toEqual(before);
  for (const kind of ['left', 'restarting', 'disconnected'] as const) expect(sum(await noticedOf(people, kind)), kind).toBe(0);

  const here = people[noticed.findIndex((count) => count > 0)];
  const there = people[noticed.findIndex((count) => count === 0)];
  if (!here) throw new Error('nobody was on it');
  await here.call('sendWords', 'still here', { reliable: true, topic: 'after' });
  await (there ?? people.find((one) => one !== here))?.notices('a message', (it) => it.kind === 'data' && it.topic === 'after');
});

for (const [how, name, limit] of [
  ['is killed', 'node_kill', BACK_AFTER_DEATH],
  ['falls silent', 'node_silence', BACK_AFTER_SILENCE],
] as const) {
  test(`everybody is back soon after a node ${how}`, async () => {
    const people = await call();
    const times: Return[] = [];
    for (let round = 0; round < ROUNDS; round += 1) {
      const [home] = (await cluster.room(ROOM)).homes;
      times.push(
        ...(await comeBack(people, async () => {
          if (name === 'node_kill') await cluster.node(home).kill();
          else cluster.node(home).freeze();
        })),
      );
      await cluster.node(home).kill();
      cluster.node(home).startAgain();
      await cluster.ready();
    }
    tell(name, times);
    promised(spread(`browser_${name}_back`, times.map(({ back }) => back)), limit);
  });
}

test('nobody is left behind on a node that drains', async () => {
  const people = await call();
  const [home] = (await cluster.room(ROOM)).homes;
  const times = await comeBack(people, () => cluster.drain(home));
  tell('drain', times);
  for (const one of people) expect((await one.call('self')).node).not.toBe(home);
  promised(spread('browser_drain_gap', times.map(({ silence }) => silence)), GAP_OF_DRAIN);
});

test('a call goes on without Redis', async () => {
  await outlive('redis', cluster.redis, 'pipemesh_redis_up');
});

test('a call goes on without Consul', async () => {
  await outlive('consul', cluster.consul, 'pipemesh_consul_up');
});

function promised(time: number, limit: number): void {
  if (IS_ALONE) expect(time).toBeLessThan(limit);
}

/** Kills it under a call, and starts it again: nothing is lost, and soon all works again. */
async function outlive(name: string, server: Server, metric: string): Promise<void> {
  const people = await call();
  const killed = Date.now();
  await server.process.kill();
  await cluster.all(metric, 0);
  await delay(killed + OUTAGE - Date.now());
  server.process.startAgain();
  await until(PATIENCE, `${name} to answer`, server.up);
  const returned = Date.now();
  const [known] = await Promise.all([
    cluster.all(metric, 1).then(() => Date.now() - returned),
    enters('another-1', returned),
    enters('another-2', returned),
  ]);
  const works = Date.now() - returned;
  figure(`browser_${name}_outage`, OUTAGE, 'ms');
  figure(`browser_${name}_seen_again`, known, 'ms');
  figure(`browser_${name}_full_function`, works, 'ms');
  await delay(A_WHILE);

  const window = { from: killed, to: Date.now() };
  const all = await Promise.all(people.map((one) => one.call('arrivals', killed - A_WHILE)));
  const losses = lostOf(all, window);
  figure(`browser_${name}_packets`, sum(all.flatMap((it) => alive(it, 'audio', killed).map(({ times }) => times.length))), 'count');
  figure(`browser_${name}_packets_lost`, losses, 'count');
  spread(`browser_${name}_gap`, all.map((arrivals) => gapOf(arrivals, window)));
  for (const arrivals of all) {
    expect(alive(arrivals, 'audio', killed).length, 'people heard before').toBe(PEOPLE - 1);
    expect(heard(arrivals, 'audio', window.to - 500).size, 'people heard').toBe(PEOPLE - 1);
  }
  expect(losses, 'packets lost').toBe(0);
  promised(works, FULL_FUNCTION);
  for (const one of people) {
    const unwanted = ['left', 'resuming', 'restarting', 'disconnected'];
    expect(await one.count((it) => unwanted.includes(it.kind)), `what ${one.identity} noticed`).toBe(0);
  }
}

/** How often each of them noticed something of that kind. */
function noticedOf(people: Peer[], kind: Happening['kind']): Promise<number[]> {
  return Promise.all(people.map((one) => one.count((it) => it.kind === kind)));
}

/** Somebody opens a room that nobody knows, as soon as he is let in. */
async function enters(room: string, since: number): Promise<void> {
  const zoe = await stage.peer(room, 'zoe');
  await until(
    PATIENCE,
    `somebody to be let into ${room}`,
    () => zoe.join().then(() => true, () => false),
    () => `${Date.now() - since} ms`,
  );
}

/** Everybody in one room, hearing and seeing everybody. */
async function call(): Promise<Peer[]> {
  const people: Peer[] = [];
  for (const name of NAMES.slice(0, PEOPLE)) {
    const one = await stage.peer(ROOM, name);
    await one.call('watch');
    await one.join();
    await one.call('publishMicrophone');
    await one.call('publishDrawing', 320, 180, 10);
    people.push(one);
  }
  await flows(people);
  return people;
}

async function flows(people: Peer[]): Promise<void> {
  for (const one of people) {
    let all: Arrivals[] = [];
    let said: Happening[] = [];
    await until(
      PATIENCE,
      `${one.identity} to hear and see everybody`,
      async () => {
        const since = Date.now() - 1000;
        all = await one.call('arrivals', since);
        said = await one.call('happenings');
        return (['audio', 'video'] as const).every((kind) => heard(all, kind, since).size === people.length - 1);
      },
      () => [all.map(({ kind, connection, participant, times }) => [kind, connection, participant, times.length]), said.slice(-20)],
    );
  }
}

/** How somebody came back, in milliseconds. */
interface Return {
  /** Until signaling told the page to join anew. */
  told: number;
  /** From there until the SDK did. */
  backOff: number;
  /** From there until the answer. */
  join: number;
  /** From there until the first packet of sound, and the first whole frame. */
  packet: number;
  frame: number;
  /** Until somebody was heard, and heard by somebody. */
  back: number;
  /** The longest time in which nobody was heard. */
  silence: number;
}

/** Does that, and waits until everybody has joined anew under the same ids, hears and sees everybody. */
async function comeBack(people: Peer[], happens: () => Promise<void>): Promise<Return[]> {
  const before = await Promise.all(people.map((one) => one.call('self')));
  const begin = Date.now();
  const connections = await Promise.all(people.map(async (one) => 1 + Math.max(...(await one.call('arrivals', begin)).map((it) => it.connection))));
  const since = Date.now();
  await happens();
  await Promise.all(people.map((one) => one.notices('being back', (it) => it.kind === 'reconnected' && it.at > since)));
  await flows(people);
  const now = Date.now();

  const after = await Promise.all(people.map((one) => one.call('self')));
  expect(after.map(({ sid }) => sid)).toEqual(before.map(({ sid }) => sid));
  const arrivals = await Promise.all(people.map((one) => one.call('arrivals', since - A_WHILE)));
  const returns: Return[] = [];
  for (const [index, one] of people.entries()) {
    const happenings = (await one.call('happenings')).filter(({ at }) => at > since);
    const at = (kind: string) => happenings.find((it) => it.kind === kind)?.at ?? NaN;
    const [told, restarting, welcomed] = [at('sent away'), at('restarting'), at('welcomed')];
    const [mine = [], from = 0] = [arrivals[index], connections[index]];
    const [packet, frame] = [first(mine, 'audio', from), first(mine, 'video', from)];
    const sid = after[index]?.sid;
    const by = arrivals.flatMap((it, other) => (other === index ? [] : [first(it, 'audio', connections[other] ?? 0, ({ participant }) => participant === sid)]));
    // An SDK that joins anew takes leave of everybody by itself, before it says so. Nobody is seen leaving otherwise.
    const left = happenings.filter((it) => it.kind === 'left' && !(it.at >= told && it.at <= restarting));
    expect(left.length, `times that ${one.identity} saw somebody leave: ${account(happenings, since)}`).toBe(0);
    expect(happenings.filter((it) => it.kind === 'restarting').length, 'times that somebody joined anew').toBe(1);
    returns.push({
      told: told - since,
      backOff: restarting - told,
      join: welcomed - restarting,
      packet: packet - welcomed,
      frame: frame - welcomed,
      back: Math.max(packet, Math.min(...by)) - since,
      silence: longestGap(merged(mine, 'audio'), { from: since, to: now }),
    });
  }
  return returns;
}

/** Who came and went, and when. */
function account(happenings: Happening[], since: number): string {
  const told = happenings.map((it) => {
    const what = it.kind === 'came' || it.kind === 'left' ? `${it.identity} ${it.kind}` : it.kind;
    return `${Math.round(it.at - since)} ${what}`;
  });
  return told.join(', ');
}

function tell(name: string, times: Return[]): void {
  figure(`browser_${name}_people`, times.length, 'count');
  spread(`browser_${name}_told`, times.map(({ told }) => told));
  spread(`browser_${name}_sdk_back_off`, times.map(({ backOff }) => backOff));
  spread(`browser_${name}_join`, times.map(({ join }) => join));
  spread(`browser_${name}_first_packet`, times.map(({ packet }) => packet));
  spread(`browser_${name}_first_frame`, times.map(({ frame }) => frame));
  spread(`browser_${name}_silence`, times.map(({ silence }) => silence));
}

/** The longest time in which somebody was not heard who was before, on whichever stream. */
function gapOf(all: Arrivals[], window: Window): number {
  const gaps = alive(all, 'audio', window.from).map(({ participant }) => {
    const of = all.filter((it) => it.participant === participant);
    return longestGap(merged(of, 'audio'), window);
  });
  return Math.max(...gaps);
}

/** Packets of sound that nobody got of those whom they heard before. */
function lostOf(all: Arrivals[][], { from }: Window): number {
  return sum(all.flatMap((it) => alive(it, 'audio', from).map(missing)));
}

function sum(values: number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
