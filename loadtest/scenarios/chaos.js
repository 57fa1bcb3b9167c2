// Long calls, and under them a mesh that is broken on purpose, again and again: a node is drained and taken
// back, then one is killed and started again. Who is in a call stays in it, as somebody with an SDK does, and
// has to see and hear everybody at the end.
//
// Breaking the mesh takes the admin API and two commands, which are given the node's name as $1:
//
//   make mesh
//   pipemesh-loadtest run --allow-exec -e SFU_URL=ws://127.0.0.1:7880 -e ADMIN_URL=http://127.0.0.1:7812 \
//     -e KILL_CMD='kill -9 "$(cat target/mesh/$1.pid)"' loadtest/scenarios/chaos.js
//
// (That mesh starts its dead again by itself; else -e RESTART_CMD='docker compose start "$1"'.) Without the
// admin API nothing is drained and $1 is -e VICTIM=…; without KILL_CMD nothing is killed; what is always
// done is that one participant joins anew in the middle and one loses its network for a second.
//
// On two cores together with the mesh: 2 rooms of 3 for two minutes. More: -e ROOMS=10 -e PEOPLE=20
// -e MINUTES=10 -e PAUSE=30.

import { check, sleep } from 'k6';
import exec from 'k6/execution';
import { Counter } from 'k6/metrics';
import { AccessToken, Client, admin, chaos, media } from 'sfu';

const rooms = Number(__ENV.ROOMS ?? 2);
const people = Number(__ENV.PEOPLE ?? 3);
const seconds = Number(__ENV.MINUTES ?? 2) * 60;
// Between two blows, in seconds. Everybody should be back long before.
const pause = Number(__ENV.PAUSE ?? 10);

export const options = {
  scenarios: {
    calls: { executor: 'per-vu-iterations', vus: rooms * people, maxDuration: `${seconds + 90}s` },
    operator: { executor: 'per-vu-iterations', exec: 'operator', startTime: `${pause}s`, maxDuration: `${seconds + 60}s` },
  },
  thresholds: {
    // Everybody comes back,
    participants_lost: ['count==0'],
    sfu_reconnect_failed: ['rate<0.01'],
    'checks{role:caller}': ['rate==1'],
    // soon,
    'sfu_reconnect_duration{type:rejoin}': ['p(95)<4000'],
    'sfu_reconnect_duration{type:migrate}': ['p(95)<2000'],
    // and is missed for no longer than this.
    'rtc_media_gap{cause:node_down}': ['p(95)<5000'],
    'rtc_media_gap{cause:migrate}': ['p(95)<2500'],
    rtc_integrity_errors: ['count==0'],
    sfu_join_failed: ['rate==0'],
    // The mesh was broken as it should be.
    'checks{role:operator}': ['rate==1'],
  },
};

const lost = new Counter('participants_lost');
const url = __ENV.SFU_URL ?? 'ws://127.0.0.1:7880';
const api = { token: __ENV.ADMIN_TOKEN };

export function setup() {
  return { run: Date.now(), end: Date.now() + seconds * 1000 };
}

/** One call from the beginning to the end. */
export default async function ({ run, end }) {
  exec.vu.tags.role = 'caller';
  lost.add(0);
  const number = exec.vu.idInTest - 1;
  const identity = `caller-${number}`;
  const token = new AccessToken(__ENV.API_KEY ?? 'devkey', __ENV.API_SECRET ?? 'secret', { identity })
    .grant({ room: `chaos-${run}-${number % rooms}`, publish: true, subscribe: true })
    .toJwt();
  const call = await new Client(url).join(token, { autoSubscribe: true });
  call.on('reconnected', ({ node, duration, reason, kind }) => {
    console.log(`${identity} is back on ${node.id || 'a node'} after ${Math.round(duration)} ms: ${kind}, ${reason}`);
  });
  call.on('disconnected', ({ reason }) => {
    lost.add(1);
    console.error(`${identity} is lost: ${reason}`);
  });
  await call.publish(media.video({ width: 640, height: 360, kbps: 400, fps: 15 }));
  await call.publish(media.audio());
  // One camera and one microphone of everybody else.
  const tracks = 2 * (people - 1);
  await call.subscribe({ limit: tracks, wait: '10s' });

  await sleep((end - Date.now()) / 2000);
  if (number === 0) call.network.cut('1s');
  // It may be away already.
  if (number === 1) await call.simulate('full-reconnect').catch((error) => console.warn(error.message));
  await sleep(Math.max(0, (end - Date.now()) / 1000));

  const before = await call.stats();
  await sleep(2);
  const after = await call.stats();
  const grows = (kind) => after.inbound[kind].packets > before.inbound[kind].packets;
  check(after, {
    'still in the call': (it) => it.connected,
    'sees and hears everybody': (it) => it.inbound.video.tracks + it.inbound.audio.tracks === tracks && it.tracks.missing === 0,
    'pictures come': () => tracks === 0 || grows('video'),
    'sound comes': () => tracks === 0 || grows('audio'),
  });
  // Who leaves first is missed by nobody.
  await sleep(2);
  await call.leave();
}

/** Breaks the mesh until too little time is left to mend it. */
export async function operator({ end }) {
  exec.vu.tags.role = 'operator';
  const blows = [__ENV.ADMIN_URL && drained, __ENV.KILL_CMD && killed].filter(Boolean);
  if (blows.length === 0) console.warn('nothing is drained without ADMIN_URL, and nothing killed without KILL_CMD');
  for (let round = 0; blows.length > 0 && Date.now() + 4 * pause * 1000 < end; round += 1) {
    await blows[round % blows.length]();
    await sleep(pause);
  }
}

async function drained() {
  const victim = await busiest();
  if (!check(victim, { 'there is somebody to drain, and another node': Boolean })) return;
  console.log(`draining ${victim}`);
  await admin.drain(__ENV.ADMIN_URL, victim, api);
  const empty = await within(60, async () => (await node(victim))?.report?.sessions === 0);
  check(empty, { 'a node that drains empties': Boolean });
  await admin.undrain(__ENV.ADMIN_URL, victim, api);
  check(await within(30, () => serves(victim)), { 'it serves again': Boolean });
}

async function killed() {
  const victim = __ENV.ADMIN_URL ? await busiest() : (__ENV.VICTIM ?? '');
  if (!check(victim, { 'there is somebody to kill, and another node': (it) => it !== null })) return;
  console.log(`killing ${victim}`);
  await run(__ENV.KILL_CMD, victim);
  await sleep(pause);
  if (__ENV.RESTART_CMD) await run(__ENV.RESTART_CMD, victim);
  if (!__ENV.ADMIN_URL) return;
  check(await within(60, () => serves(victim)), { 'a node that was killed is back': Boolean });
}

/** The node with most participants, if another one of its region can take them: a drain sends nobody abroad. */
async function busiest() {
  const nodes = (await admin.nodes(__ENV.ADMIN_URL, api)).filter((it) => it.registered === 'serving' && it.reach === 'up');
  nodes.sort((a, b) => (b.report?.sessions ?? 0) - (a.report?.sessions ?? 0));
  const victim = nodes.find(({ id, region }) => nodes.some((other) => other.id !== id && other.region === region));
  return victim?.id ?? null;
}

async function node(id) {
  return (await admin.nodes(__ENV.ADMIN_URL, api)).find((it) => it.id === id);
}

async function serves(id) {
  const it = await node(id);
  return it?.registered === 'serving' && it.reach === 'up';
}

async function run(command, victim) {
  const { code, stderr } = await chaos.exec('sh', ['-c', command, 'sh', victim]);
  if (!check(code, { 'the command works': (it) => it === 0 })) console.error(`${command}: ${stderr}`);
}

async function within(limit, condition) {
  for (const end = Date.now() + limit * 1000; Date.now() < end; await sleep(1)) {
    if (await condition()) return true;
  }
  return false;
}
