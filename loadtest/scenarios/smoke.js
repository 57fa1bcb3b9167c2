// Every feature once, in under half a minute: three participants of one room see, hear and tell each
// other what they should. Works on two cores together with the mesh.

import { check, group, sleep } from 'k6';
import exec from 'k6/execution';
import { AccessToken, Client, media } from 'sfu';

export const options = {
  scenarios: {
    meeting: { executor: 'per-vu-iterations', vus: 3, iterations: 1, maxDuration: '30s', gracefulStop: '5s' },
  },
  thresholds: {
    checks: ['rate==1'],
    rtc_integrity_errors: ['count==0'],
    rtc_tracks_missing: ['rate==0'],
    sfu_join_failed: ['rate==0'],
    sfu_join_duration: ['p(95)<5000'],
    'rtc_packet_loss{kind:video}': ['rate<0.01'],
    rtc_data_latency: ['p(95)<1000'],
  },
};

const url = __ENV.SFU_URL ?? 'ws://127.0.0.1:7880';
const others = 2;

export function setup() {
  return { room: `smoke-${Date.now()}` };
}

export default async function ({ room }) {
  const identity = `user-${exec.vu.idInTest}`;
  const token = new AccessToken(__ENV.API_KEY ?? 'devkey', __ENV.API_SECRET ?? 'secret', { identity, ttl: '10m' })
    .grant({ room, publish: true, subscribe: true, data: true })
    .toJwt();
  const dialect = exec.vu.idInTest % 2 ? 'single' : 'dual';
  const meeting = await new Client(url, { dialect }).join(token);

  const heard = { hello: 0, done: 0 };
  meeting.on('data', (message) => {
    check(message, { 'data comes from who sent it': (it) => it.payload.from === it.from });
    heard[message.topic] += 1;
  });
  // Nobody goes on before everybody has said so: until then all are there.
  const together = async (topic) => {
    await meeting.sendData({ topic, payload: { from: identity } });
    for (let waited = 0; heard[topic] < others && waited < 8; waited += 0.1) await sleep(0.1);
    check(heard[topic], { [`everybody said ${topic}`]: (it) => it === others });
  };

  const camera = await meeting.publish(media.simulcast());
  const microphone = await meeting.publish(media.audio());

  const tracks = await meeting.subscribe({ limit: 2 * others, wait: '8s' });
  check(tracks, { 'everybody publishes sound and picture': (it) => it.length === 2 * others });
  for (const track of tracks) {
    const came = await track.received({ timeout: '8s' });
    check(came, { 'each track arrives': Boolean });
  }
  await together('hello');
  const people = await meeting.participants();
  check(people, { 'everybody is there': (it) => it.length === others });

  await group('layers', async () => {
    const [video] = tracks.filter((it) => it.kind === 'video');
    const lowest = await video.setLayer({ rid: 'q', wait: '8s' });
    check(lowest, { 'the lowest layer comes': (it) => it !== null });
    const highest = await video.setLayer({ rid: 'f', wait: '8s' });
    check(highest, { 'the highest layer comes': (it) => it !== null });
  });

  await camera.mute();
  await sleep(1);
  await camera.unmute();
  await microphone.mute();
  await meeting.simulate('signal-drop');
  await sleep(2);

  await together('done');
  const stats = await meeting.stats();
  check(stats, {
    'nothing is missing': (it) => it.tracks.missing === 0,
    'video moves': (it) => it.inbound.video.frames > 20,
  });
  await sleep(1);
  await meeting.leave();
}
