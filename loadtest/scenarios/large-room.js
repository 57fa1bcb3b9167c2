// One room, few speakers, and an audience that grows and stays. On two cores together with the mesh:
// 3 speakers and 20 viewers. More: -e SPEAKERS=6 -e VIEWERS=500 -e MINUTES=10.

import { check, sleep } from 'k6';
import exec from 'k6/execution';
import { AccessToken, Client, media } from 'sfu';

const speakers = Number(__ENV.SPEAKERS ?? 3);
const viewers = Number(__ENV.VIEWERS ?? 20);
const seconds = Math.round(Number(__ENV.MINUTES ?? 2) * 60);

export const options = {
  scenarios: {
    speakers: {
      executor: 'per-vu-iterations', exec: 'speaker', vus: speakers, maxDuration: `${seconds + 60}s`, tags: { role: 'speaker' },
    },
    audience: {
      executor: 'ramping-vus', exec: 'viewer', startTime: '3s', startVUs: 0, tags: { role: 'viewer' },
      stages: [
        { duration: `${Math.ceil(seconds / 4)}s`, target: viewers },
        { duration: `${Math.ceil(seconds * 3 / 4)}s`, target: viewers },
      ],
      gracefulRampDown: '5s', gracefulStop: '10s',
    },
  },
  thresholds: {
    sfu_join_failed: [{ threshold: 'rate<0.01', abortOnFail: true, delayAbortEval: '20s' }],
    sfu_join_duration: ['p(95)<1500'],
    'rtc_time_to_first_frame{kind:video}': ['p(95)<2000'],
    'rtc_packet_loss{kind:video}': ['rate<0.005'],
    rtc_freeze_ratio: ['rate<0.02'],
    rtc_tracks_missing: ['rate<0.01'],
    rtc_integrity_errors: ['count==0'],
    gen_loop_lag: ['p(99)<100'],
    'checks{role:viewer}': ['rate>0.99'],
  },
};

const url = __ENV.SFU_URL ?? 'ws://127.0.0.1:7880';

const token = (room, identity, grants) =>
  new AccessToken(__ENV.API_KEY ?? 'devkey', __ENV.API_SECRET ?? 'secret', { identity }).grant({ room, ...grants }).toJwt();

export function setup() {
  return { room: `large-${Date.now()}` };
}

export async function speaker({ room }) {
  const hall = await new Client(url).join(token(room, `speaker-${exec.vu.idInTest}`, { publish: true, subscribe: false }));
  await hall.publish(media.simulcast());
  const microphone = await hall.publish(media.audio({ speech: 'turns' }));
  // They stay until the last of the audience has left.
  for (let left = seconds + 20; left > 0; left -= 20) {
    await sleep(15);
    await microphone.mute();
    await sleep(5);
    await microphone.unmute();
  }
  await hall.leave();
}

export async function viewer({ room }) {
  const identity = `viewer-${exec.vu.idInTest}-${exec.vu.iterationInInstance}`;
  const hall = await new Client(url).join(token(room, identity, { publish: false, subscribe: true }));
  const tracks = await hall.subscribe({ limit: 2 * speakers, wait: '5s' });
  check(tracks, { 'every speaker is there': (it) => it.length === 2 * speakers });

  // One picture is large, the others small, and which is large changes.
  const tiles = tracks.filter((it) => it.kind === 'video');
  for (const tile of tiles) await tile.setLayer({ rid: 'q' });
  for (let turn = 0; turn < 3; turn += 1) {
    const [large] = tiles.splice(0, 1);
    if (!large) break;
    tiles.push(large);
    await large.setLayer({ rid: 'f', wait: '5s' });
    await sleep(5 + 5 * Math.random());
    await large.setLayer({ rid: 'q' });
  }

  const stats = await hall.stats();
  check(stats, {
    'no track is missing': (it) => it.tracks.missing === 0,
    // A frame has a packet at least. Frames themselves are not counted where packets are only sampled.
    'video moves': (it) => it.inbound.video.packets > 300,
  });
  await hall.leave();
}
