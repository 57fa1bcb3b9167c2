import { check, sleep } from 'k6';
import { AccessToken, Client, media } from 'sfu';

export const options = {
  vus: 3,
  duration: '20s',
  thresholds: {
    sfu_join_failed: ['rate<0.01'],
    sfu_join_duration: ['p(95)<1500'],
    rtc_packet_loss: ['rate<0.005'],
    checks: ['rate>0.99'],
  },
};

const url = __ENV.SFU_URL ?? 'ws://127.0.0.1:7880';
const key = __ENV.API_KEY ?? 'devkey';
const secret = __ENV.API_SECRET ?? 'secret';

export default async function () {
  const token = new AccessToken(key, secret, { identity: `user-${__VU}-${__ITER}` })
    .grant({ room: 'first-test', publish: true, subscribe: true })
    .toJwt();

  const room = await new Client(url).join(token);
  await room.publish(media.simulcast());
  await room.publish(media.audio());

  const tracks = await room.subscribe({ limit: 2, wait: '5s' });
  check(tracks, { 'somebody else is here': (it) => it.length > 0 });

  await sleep(5);
  const stats = await room.stats();
  check(stats, { 'every track is received': (it) => it.tracks.missing === 0 });
  await room.leave();
}
