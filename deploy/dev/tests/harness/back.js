// Four people in a call; their node is killed, stopped or drained under them (HOW), and everybody comes back
// by himself to the same call on another node.

import { check, sleep } from 'k6';
import exec from 'k6/execution';
import { AccessToken, Client, admin, chaos, media, phase } from 'sfu';

const people = 4;

export const options = {
  scenarios: {
    call: { executor: 'per-vu-iterations', vus: people, iterations: 1, maxDuration: '80s' },
  },
  thresholds: {
    checks: ['rate==1'],
    sfu_reconnects: [`count==${people}`],
    'sfu_reconnects{type:rejoin}': ['count>=0'],
    'sfu_reconnects{type:migrate}': ['count>=0'],
    'sfu_disconnects{reason:migration}': ['count>=0'],
    sfu_reconnect_failed: ['rate==0'],
    'rtc_media_gap{cause:node_down}': ['max>=0'],
    rtc_tracks_missing: ['rate==0'],
    // What is measured of a room that was joined before bears the phase, too.
    'rtc_packets_received{phase:outage}': ['count>0'],
    rtc_integrity_errors: ['count==0'],
  },
};

export default async function () {
  const number = exec.vu.idInTest;
  const token = new AccessToken('devkey', 'secret', { identity: `user-${number}` })
    .grant({ room: 'call', publish: true, subscribe: true, data: true })
    .toJwt();
  const call = await new Client(__ENV.SFU_URL, { dialect: number % 2 ? 'single' : 'dual' }).join(token);
  const heard = {};
  call.on('data', ({ topic, from }) => {
    (heard[topic] ??= new Set()).add(from);
  });
  const events = [];
  for (const name of ['reconnecting', 'reconnected', 'disconnected']) call.on(name, (event) => events.push({ name, ...event }));
  const until = async (what, limit, condition) => {
    for (const end = Date.now() + limit * 1000; Date.now() < end; await sleep(0.1)) {
      if (await condition()) return check(true, { [what]: Boolean });
    }
    return check(false, { [what]: Boolean });
  };
  // Said again and again: who is not back yet does not hear it.
  const together = (topic) => until(`all say ${topic}`, 30, async () => {
    await call.sendData({ topic, payload: number });
    return heard[topic]?.size === people - 1;
  });

  await call.publish(media.video({ width: 320, height: 180, kbps: 150, fps: 15 }));
  const microphone = await call.publish(media.audio());
  const tracks = await call.subscribe({ limit: 2 * (people - 1), wait: '10s' });
  for (const track of tracks) check(await track.received(), { 'each track arrives': Boolean });
  await together('hello');
  if (number === 1) await microphone.mute();

  const { sid, node } = call;
  phase('outage');
  if (number === 1) {
    if (__ENV.HOW === 'drain') await admin.drain(__ENV.ADMIN_URL, node.id);
    else await chaos.exec('kill', [`-${__ENV.HOW}`, __ENV[`PID_${node.id}`]]);
  }
  await until('everybody is back', 40, () => events.some((it) => it.name === 'reconnected'));

  const before = await call.stats();
  let seen;
  const whole = await until('pictures come from everybody', 20, async () => {
    seen = await call.stats();
    const { connected, inbound, tracks: all } = seen;
    const come = inbound.video.frames - before.inbound.video.frames;
    return connected && inbound.video.tracks === people - 1 && come > 15 * people && all.missing === 0;
  });
  if (!whole) console.error(`user-${number}: ${JSON.stringify(seen)}`);
  await together('goodbye');
  const after = await call.stats();
  check(after, {
    'the same tracks are wanted': (it) => it.tracks.wanted === tracks.length,
    'it came back once': (it) => it.reconnects === 1,
    'what was counted stays counted': (it) => it.inbound.video.packets > before.inbound.video.packets,
  });
  check(call, {
    'the same participant': (it) => it.sid === sid,
    'on another node': (it) => it.node.id !== '' && it.node.id !== node.id,
  });
  check(events, {
    'was told what happens': (it) => it.map(({ name }) => name).join() === 'reconnecting,reconnected',
    'was told where it is': (it) => it[1].node.id === call.node.id && it[1].duration > 0,
  });
  // Nobody goes while somebody still looks.
  await together('done');
  await sleep(1);
  await call.leave();
}
