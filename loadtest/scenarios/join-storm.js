// People come and go all the time, at a rate that rises and falls whatever becomes of them, in as many
// calls as come in a second, so that five or six are in each. On two cores together with the mesh: up to
// 5 joins a second. More: -e RATE=100 -e MINUTES=5; a signaling process takes 50 joins a second of one
// address, unless limits.joins_per_address says otherwise. Larger calls: -e ROOMS=2. With
// -e ADMIN_URL=… also whether every room ends.

import { check, sleep } from 'k6';
import exec from 'k6/execution';
import { AccessToken, Client, admin, media } from 'sfu';

const rate = Number(__ENV.RATE ?? 5);
const rooms = Number(__ENV.ROOMS ?? rate);
const third = Math.max(1, Math.round(Number(__ENV.MINUTES ?? 1) * 20));

export const options = {
  scenarios: {
    storm: {
      executor: 'ramping-arrival-rate', startRate: 1, preAllocatedVUs: 12 * rate,
      stages: [
        { duration: `${third}s`, target: rate },
        { duration: `${third}s`, target: rate },
        { duration: `${third}s`, target: 0 },
      ],
    },
  },
  thresholds: {
    dropped_iterations: ['count==0'],
    sfu_join_duration: ['p(99)<3000'],
    sfu_join_failed: ['rate<0.01'],
    rtc_integrity_errors: ['count==0'],
    checks: ['rate>0.99'],
  },
  teardownTimeout: '2m',
};

export function setup() {
  return { run: `storm-${Date.now()}` };
}

export default async function ({ run }) {
  const number = exec.scenario.iterationInTest;
  const token = new AccessToken(__ENV.API_KEY ?? 'devkey', __ENV.API_SECRET ?? 'secret', { identity: `user-${number}` })
    .grant({ room: `${run}-${number % rooms}`, publish: true, subscribe: true })
    .toJwt();
  const room = await new Client(__ENV.SFU_URL ?? 'ws://127.0.0.1:7880').join(token, { timeout: '20s' });
  await room.publish(media.audio({ dtx: true }));
  await room.subscribe({ kinds: ['audio'] });
  await sleep(3 + 5 * Math.random());
  const stats = await room.stats();
  check(stats, { 'still connected': (it) => it.connected });
  await room.leave();
}

export async function teardown({ run }) {
  if (!__ENV.ADMIN_URL) return;
  // Rooms stay open for a while after the last one has left.
  for (let tries = 0; tries < 45; tries += 1) {
    const left = (await admin.rooms(__ENV.ADMIN_URL, { token: __ENV.ADMIN_TOKEN })).filter((it) => it.name.startsWith(run));
    if (left.length === 0) return;
    await sleep(2);
  }
  check(null, { 'every room has ended': false });
}
