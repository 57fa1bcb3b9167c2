// Many small rooms, each with everybody seeing everybody. On two cores together with the mesh: 6 rooms
// of 3 for a minute. More: -e ROOMS=100 -e PEOPLE=4 -e MINUTES=5. With -e ADMIN_URL=… also whether
// the nodes have equally much to do.

import { check, sleep } from 'k6';
import exec from 'k6/execution';
import { AccessToken, Client, admin, media } from 'sfu';

const rooms = Number(__ENV.ROOMS ?? 6);
const people = Number(__ENV.PEOPLE ?? 3);
const seconds = Math.round(Number(__ENV.MINUTES ?? 1) * 60);

export const options = {
  scenarios: {
    meetings: { executor: 'per-vu-iterations', vus: rooms * people, iterations: 1, maxDuration: `${seconds + 60}s` },
    balance: { executor: 'per-vu-iterations', exec: 'balance', startTime: `${Math.ceil(seconds / 2)}s`, maxDuration: '30s' },
  },
  thresholds: {
    sfu_join_failed: ['rate<0.01'],
    sfu_join_duration: ['p(95)<1500'],
    rtc_packet_loss: ['rate<0.005'],
    rtc_tracks_missing: ['rate<0.01'],
    rtc_integrity_errors: ['count==0'],
    gen_loop_lag: ['p(99)<100'],
    checks: ['rate>0.99'],
  },
};

const camera = media.video({ width: 640, height: 360, kbps: 400, fps: 15 });

export function setup() {
  return { run: Date.now() };
}

export default async function ({ run }) {
  const place = exec.scenario.iterationInTest;
  const room = `meeting-${run}-${place % rooms}`;
  const token = new AccessToken(__ENV.API_KEY ?? 'devkey', __ENV.API_SECRET ?? 'secret', { identity: `user-${place}` })
    .grant({ room, publish: true, subscribe: true })
    .toJwt();
  await sleep(5 * Math.random());
  const meeting = await new Client(__ENV.SFU_URL ?? 'ws://127.0.0.1:7880').join(token);
  await meeting.publish(camera);
  await meeting.publish(media.audio({ speech: 'turns', dtx: true }));

  const wanted = 2 * (people - 1);
  const tracks = await meeting.subscribe({ limit: wanted, wait: '15s' });
  check(tracks, { 'everybody of the room is there, and nobody else': (it) => it.length === wanted });
  await sleep(seconds);
  const stats = await meeting.stats();
  check(stats, {
    'no track is missing': (it) => it.tracks.missing === 0,
    'nothing of another room comes': (it) => it.integrityErrors === 0,
  });
  // Nobody leaves before the others have looked.
  await sleep(10);
  await meeting.leave();
}

export async function balance() {
  if (!__ENV.ADMIN_URL) return;
  const nodes = await admin.nodes(__ENV.ADMIN_URL, { token: __ENV.ADMIN_TOKEN });
  const serving = nodes.filter((it) => it.report?.state === 'serving');
  for (const region of new Set(serving.map((it) => it.region))) {
    const sessions = serving.filter((it) => it.region === region).map((it) => it.report.sessions);
    const mean = sessions.reduce((sum, it) => sum + it, 0) / sessions.length;
    // A room is on one node: a few people more say nothing.
    const most = Math.max(1.5 * mean, mean + people);
    check(sessions, { 'no node has half as many again as its region on average': (it) => Math.max(...it) <= most });
  }
}
