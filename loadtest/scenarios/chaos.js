// Calls go on while a node is drained, and while another one is killed and comes back. Needs the admin
// API for the first (-e ADMIN_URL=http://127.0.0.1:7890, -e ADMIN_TOKEN=…) and commands for the second
// (-e KILL_CMD='…' -e RESTART_CMD='…', with --allow-exec); what is not given is left out, except that
// the network is always cut for a moment. On two cores together with the mesh: 2 rooms of 3 for a
// minute and a half. More: -e ROOMS=10 -e PEOPLE=20 -e MINUTES=8.

import { check, sleep } from 'k6';
import exec from 'k6/execution';
import { AccessToken, Client, admin, chaos, media, phase } from 'sfu';

const rooms = Number(__ENV.ROOMS ?? 2);
const people = Number(__ENV.PEOPLE ?? 3);
const seconds = Math.round(Number(__ENV.MINUTES ?? 1.5) * 60);

export const options = {
  scenarios: {
    calls: { executor: 'constant-vus', vus: rooms * people, duration: `${seconds}s`, gracefulStop: '30s' },
    operator: { executor: 'per-vu-iterations', exec: 'operator', maxDuration: `${seconds + 30}s` },
  },
  thresholds: {
    sfu_join_failed: ['rate<0.05'],
    sfu_reconnect_failed: ['rate<0.01'],
    'rtc_media_gap{phase:calls}': ['p(95)<5000'],
    rtc_integrity_errors: ['count==0'],
    'checks{role:operator}': ['rate==1'],
    'checks{role:caller}': ['rate>0.95'],
  },
};

export function setup() {
  return { run: Date.now() };
}

/** One call of a good ten seconds after the other; the next is where the mesh wants it by then. */
export default async function ({ run }) {
  exec.vu.tags.role = 'caller';
  phase('calls');
  const number = exec.vu.idInTest - 1;
  const token = new AccessToken(__ENV.API_KEY ?? 'devkey', __ENV.API_SECRET ?? 'secret', { identity: `caller-${number}` })
    .grant({ room: `chaos-${run}-${number % rooms}`, publish: true, subscribe: true })
    .toJwt();
  const call = await new Client(__ENV.SFU_URL ?? 'ws://127.0.0.1:7880').join(token, { autoSubscribe: true });
  await call.publish(media.video({ width: 640, height: 360, kbps: 400, fps: 15 }));
  await call.publish(media.audio());
  await call.subscribe({ limit: people - 1, wait: '5s' });
  if (number === 0) call.network.cut('1s');
  await sleep(10);
  const stats = await call.stats();
  check(stats, { 'still in the call': (it) => it.connected });
  await call.leave();
}

export async function operator() {
  exec.vu.tags.role = 'operator';
  const part = seconds / 4;
  await sleep(part);
  const api = { token: __ENV.ADMIN_TOKEN };
  const nodes = __ENV.ADMIN_URL ? await admin.nodes(__ENV.ADMIN_URL, api) : [];
  const victim = nodes.find((it) => it.report?.sessions > 0);
  if (victim) {
    console.log(`draining ${victim.id}`);
    await admin.drain(__ENV.ADMIN_URL, victim.id, api);
    const empty = await within(part, async () => {
      const now = (await admin.nodes(__ENV.ADMIN_URL, api)).find((it) => it.id === victim.id);
      return now.report?.sessions === 0;
    });
    check(empty, { 'a node that drains empties': Boolean });
    await admin.undrain(__ENV.ADMIN_URL, victim.id, api);
  }
  for (const command of [__ENV.KILL_CMD, __ENV.RESTART_CMD]) {
    if (!command) continue;
    console.log(command);
    const { code, stderr } = await chaos.exec('sh', ['-c', command]);
    if (!check(code, { 'the command works': (it) => it === 0 })) console.error(stderr);
    await sleep(part);
  }
}

async function within(limit, condition) {
  for (const end = Date.now() + limit * 1000; Date.now() < end; await sleep(1)) {
    if (await condition()) return true;
  }
  return false;
}
