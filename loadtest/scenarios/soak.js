// A few hours of calls in which people mute, change layers and come back, to see what grows. On two
// cores together with the mesh: 6 people for ten minutes. More: -e PEOPLE=100 -e HOURS=4. With
// -e METRICS_URLS=http://127.0.0.1:7889/metrics,… (operator.listen of nodes) also their memory, which
// may not be a tenth more in the last quarter than it was in the second.

import { check, sleep } from 'k6';
import exec from 'k6/execution';
import http from 'k6/http';
import { Trend } from 'k6/metrics';
import { AccessToken, Client, media } from 'sfu';

const people = Number(__ENV.PEOPLE ?? 6);
const seconds = Math.round(Number(__ENV.HOURS ?? 1 / 6) * 3600);
const pages = (__ENV.METRICS_URLS ?? '').split(',').filter(Boolean);
const memory = new Trend('node_memory_megabytes');

const duration = `${seconds}s`;
export const options = {
  scenarios: {
    calls: { executor: 'constant-vus', vus: people, duration, gracefulStop: '1m' },
    watch: { executor: 'per-vu-iterations', exec: 'watch', maxDuration: `${seconds + 60}s` },
  },
  thresholds: {
    sfu_join_failed: ['rate<0.001'],
    rtc_freeze_ratio: ['rate<0.01'],
    rtc_packet_loss: ['rate<0.001'],
    rtc_integrity_errors: ['count==0'],
    checks: ['rate>0.99'],
  },
  summaryTrendStats: ['avg', 'med', 'p(95)', 'p(99)', 'max'],
};

export function setup() {
  return { run: Date.now() };
}

export default async function ({ run }) {
  const number = exec.vu.idInTest;
  const token = new AccessToken(__ENV.API_KEY ?? 'devkey', __ENV.API_SECRET ?? 'secret', { identity: `user-${number}` })
    .grant({ room: `soak-${run}-${Math.floor((number - 1) / 4)}`, publish: true, subscribe: true })
    .toJwt();
  const call = await new Client(__ENV.SFU_URL ?? 'ws://127.0.0.1:7880').join(token);
  await call.publish(media.simulcast());
  const microphone = await call.publish(media.audio({ speech: 'turns', dtx: true }));
  const length = Math.min(300 + 600 * Math.random(), seconds / 3);
  for (const end = Date.now() + length * 1000; Date.now() < end; ) {
    const tracks = await call.subscribe();
    await microphone.mute();
    await sleep(2 + 4 * Math.random());
    await microphone.unmute();
    const [video] = tracks.filter((it) => it.kind === 'video');
    await video?.setLayer({ rid: ['q', 'h', 'f'][Math.floor(3 * Math.random())] });
    await sleep(5 + 10 * Math.random());
  }
  const stats = await call.stats();
  check(stats, { 'no track is missing': (it) => it.tracks.missing === 0 });
  await call.leave();
}

export async function watch() {
  const quarters = pages.map(() => [[], [], [], []]);
  for (let at = 0; pages.length > 0 && at < seconds; at += 15) {
    for (const [place, page] of pages.entries()) {
      const { body } = await http.asyncRequest('GET', page);
      const bytes = Number(/^process_resident_memory_bytes\S* (\S+)$/m.exec(body)?.[1]);
      if (!check(bytes, { 'a node tells of its memory': Number.isFinite })) continue;
      memory.add(bytes / 1e6, { node: page });
      quarters[place][Math.floor((4 * at) / seconds)].push(bytes);
    }
    await sleep(15);
  }
  const mean = (values) => values.reduce((sum, it) => sum + it, 0) / values.length;
  for (const [, second, , last] of quarters) {
    if (second.length && last.length) check(mean(last) / mean(second), { 'memory does not grow': (it) => it <= 1.1 });
  }
}
