// One speaker, one viewer, ten seconds.

import { check, sleep } from 'k6';
import exec from 'k6/execution';
import { AccessToken, Client, media } from 'sfu';

export const options = {
  scenarios: {
    pair: { executor: 'per-vu-iterations', vus: 2, iterations: 1, maxDuration: '40s' },
  },
  thresholds: {
    checks: ['rate==1'],
    'rtc_packet_loss{kind:video}': ['rate<1'],
    'rtc_residual_loss{kind:video}': ['rate<1'],
    'rtc_e2e_latency{kind:video}': ['max<60000'],
    rtc_integrity_errors: ['count==0'],
  },
};

export default async function () {
  const identity = exec.vu.idInTest === 1 ? 'speaker' : 'viewer';
  const token = new AccessToken('devkey', 'secret', { identity }).grant({ room: `truth-${__ENV.SFU_URL}` }).toJwt();
  const room = await new Client(__ENV.SFU_URL).join(token);
  if (identity === 'speaker') {
    // As many packets as make a per cent of them worth something.
    await room.publish(__ENV.LAYER ? media.simulcast() : media.video({ kbps: 2500 }));
    await sleep(14);
  } else {
    const [track] = await room.subscribe({ limit: 1, wait: '10s' });
    check(await track.received(), { 'it arrives': Boolean });
    if (__ENV.LAYER) await track.setLayer({ rid: __ENV.LAYER });
    await sleep(10);
  }
  await room.leave();
}
