// One room over all regions: a speaker in each, and everywhere people who see all of them. Says what
// pipes between nodes and regions cost. On two cores together with the mesh: 2 viewers in each of two
// regions. More: -e REGIONS=eu,us,sa -e VIEWERS=50 -e MINUTES=10.

import { check, sleep } from 'k6';
import exec from 'k6/execution';
import { AccessToken, Client, media } from 'sfu';

const regions = (__ENV.REGIONS ?? 'east,west').split(',');
const viewers = Number(__ENV.VIEWERS ?? 2);
const seconds = Math.round(Number(__ENV.MINUTES ?? 1) * 60);

const scenarios = {};
for (const region of regions) {
  const common = { executor: 'per-vu-iterations', maxDuration: `${seconds + 60}s`, env: { REGION: region } };
  scenarios[`speaker_${region}`] = { ...common, exec: 'speaker', vus: 1 };
  scenarios[`viewers_${region}`] = { ...common, exec: 'viewer', vus: viewers, startTime: '2s' };
}

export const options = {
  scenarios,
  thresholds: {
    sfu_join_failed: ['rate==0'],
    'rtc_e2e_latency{path:same_node}': ['p(95)<100'],
    'rtc_e2e_latency{path:cross_region}': ['p(95)<300'],
    'rtc_packet_loss{path:cross_region}': ['rate<0.005'],
    'rtc_time_to_first_frame{path:cross_region}': ['p(95)<2000'],
    rtc_tracks_missing: ['rate<0.01'],
    rtc_integrity_errors: ['count==0'],
    checks: ['rate==1'],
  },
};

export function setup() {
  return { room: `spread-${Date.now()}` };
}

async function join(room, identity, grants) {
  const token = new AccessToken(__ENV.API_KEY ?? 'devkey', __ENV.API_SECRET ?? 'secret', { identity })
    .grant({ room, ...grants })
    .toJwt();
  const joined = await new Client(__ENV.SFU_URL ?? 'ws://127.0.0.1:7880', { region: __ENV.REGION }).join(token);
  check(joined, { 'joined in the region that was asked for': (it) => it.node.region === __ENV.REGION });
  return joined;
}

export async function speaker({ room }) {
  const hall = await join(room, `speaker-${__ENV.REGION}`, { publish: true, subscribe: false });
  await hall.publish(media.simulcast());
  await hall.publish(media.audio());
  await sleep(seconds + 10);
  await hall.leave();
}

export async function viewer({ room }) {
  const hall = await join(room, `viewer-${exec.vu.idInTest}`, { publish: false, subscribe: true });
  const wanted = 2 * regions.length;
  const tracks = await hall.subscribe({ limit: wanted, wait: '10s' });
  check(tracks, {
    'every region speaks': (it) => it.length === wanted,
    'each track comes by the way it should': (it) => it.filter((track) => track.path === 'cross_region').length === wanted - 2,
  });
  await sleep(seconds - 5);
  const stats = await hall.stats();
  check(stats, { 'no track is missing': (it) => it.tracks.missing === 0 });
  await hall.leave();
}
