// For the load-test client: people who show themselves in a room, and stay until they are ended.

import { sleep } from 'k6';
import exec from 'k6/execution';
import { AccessToken, Client, media } from 'sfu';

const people = Number(__ENV.PEOPLE);

const NAMES = [
  'Aino', 'Amara', 'Anselm', 'Beatriz', 'Bruno', 'Chiara', 'Daan', 'Dilara', 'Edith', 'Emeka', 'Farid', 'Freya', 'Giulia', 'Goran', 'Hana', 'Henrik',
  'Ines', 'Ivo', 'Jamila', 'Jonas', 'Kaito', 'Katya', 'Lars', 'Leila', 'Mateo', 'Mei', 'Nadia', 'Noor', 'Olga', 'Omar', 'Paulo', 'Priya',
  'Quentin', 'Ravi', 'Rosa', 'Sanna', 'Selim', 'Tamar', 'Tariq', 'Uma', 'Ursula', 'Vera', 'Viktor', 'Wanda', 'Xenia', 'Yusuf', 'Zara', 'Zoltan',
];

export const options = {
  scenarios: { crowd: { executor: 'per-vu-iterations', vus: people, iterations: 1, maxDuration: '5m' } },
};

export default async function () {
  const number = exec.vu.idInTest;
  const token = new AccessToken('devkey', 'secret', { identity: `guest-${number}`, name: NAMES[(number - 1) % NAMES.length] })
    .grant({ room: __ENV.ROOM, publish: true, subscribe: false, data: true })
    .toJwt();
  const room = await new Client(__ENV.SFU_URL).join(token, { timeout: '60s' });
  await room.publish(media.video({ width: 320, height: 180, fps: 5, kbps: 40 }));
  await sleep(280);
}
