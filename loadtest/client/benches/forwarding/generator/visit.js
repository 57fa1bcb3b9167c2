// VISITORS people who join, wait until they hear somebody, leave, and begin again at once.

import exec from 'k6/execution';
import { AccessToken, Client } from 'sfu';

export const options = {
  scenarios: {
    visitors: {
      executor: 'constant-vus', exec: 'visit', vus: Number(__ENV.VISITORS), duration: '10m', gracefulStop: '5s',
    },
  },
};

export async function visit() {
  const identity = `visitor-${exec.vu.idInTest}-${exec.vu.iterationInInstance}`;
  const token = new AccessToken('devkey', 'secret', { identity })
    .grant({ room: 'room-0', hidden: true, publish: false })
    .toJwt();
  const room = await new Client(__ENV.SFU_URL).join(token, { timeout: '60s' });
  const [voice] = await room.subscribe({ kinds: ['audio'], limit: 1, wait: '20s' });
  const isHeard = await voice?.received({ timeout: '20s' });
  if (!isHeard) throw new Error('nobody was heard');
  await room.leave();
}
