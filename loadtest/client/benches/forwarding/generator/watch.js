// WATCHERS people who watch TRACKS tracks of one room until they are killed; with BUSY, each of them computes
// for so many milliseconds in every hundred besides.

import { sleep } from 'k6';
import exec from 'k6/execution';
import { AccessToken, Client } from 'sfu';

const watchers = Number(__ENV.WATCHERS);
const tracks = Number(__ENV.TRACKS);
const busy = Number(__ENV.BUSY ?? 0);

// Of joins; a handshake is no part of what is measured here.
const A_SECOND = 60;

export const options = {
  scenarios: {
    watchers: {
      executor: 'per-vu-iterations', exec: 'watch', vus: watchers, iterations: 1,
      startTime: __ENV.START, maxDuration: __ENV.DURATION, gracefulStop: '5s',
    },
  },
};

export async function watch() {
  const number = exec.vu.idInTest;
  await sleep(number / A_SECOND);
  const token = new AccessToken('devkey', 'secret', { identity: `watcher-${number}` })
    .grant({ room: 'room-0', hidden: true, publish: false })
    .toJwt();
  const room = await new Client(__ENV.SFU_URL).join(token, { timeout: '60s' });
  await room.subscribe({ limit: tracks, wait: '60s' });
  while (busy > 0) {
    const end = Date.now() + busy;
    while (Date.now() < end);
    await sleep((100 - busy) / 1000);
  }
  await sleep(3600);
}
