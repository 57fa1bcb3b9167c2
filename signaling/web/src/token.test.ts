import { afterEach, expect, test, vi } from 'vitest';

import { NoDemo, Refused, demoTicket, describeToken } from './token';

afterEach(() => {
  vi.unstubAllGlobals();
});

const PAGE = 'http://127.0.0.1:7880/?room=blue';
const GUEST = { room: 'blue sky', identity: 'ada-01', name: 'Ada', region: '' };

/** A server that answers once; the address it was asked for. */
function answer(status: number, body: unknown): string[] {
  const asked: string[] = [];
  vi.stubGlobal('fetch', (url: URL) => {
    asked.push(url.toString());
    return Promise.resolve(new Response(JSON.stringify(body), { status }));
  });
  return asked;
}

test('a ticket of the demo mode leads to our own origin', async () => {
  const asked = answer(200, { token: 'a.b.c', url: 'wss://elsewhere.test' });
  expect(await demoTicket(GUEST, PAGE)).toEqual({ token: 'a.b.c', url: 'ws://127.0.0.1:7880' });
  expect(asked).toEqual(['http://127.0.0.1:7880/demo/token?room=blue+sky&identity=ada-01&name=Ada']);
});

test('the region is passed along', async () => {
  const asked = answer(200, { token: 'a.b.c' });
  await demoTicket({ ...GUEST, region: 'eu' }, PAGE);
  expect(asked[0]).toContain('&region=eu');
});

test('answers without a ticket are told apart', async () => {
  answer(404, {});
  await expect(demoTicket(GUEST, PAGE)).rejects.toBeInstanceOf(NoDemo);
  for (const [status, body] of [[429, {}], [500, {}], [200, {}]] as const) {
    answer(status, body);
    await expect(demoTicket(GUEST, PAGE), `${status}`).rejects.toBeInstanceOf(Refused);
  }
});

test('a token is described, not trusted', () => {
  const token = (claims: object) => {
    const bytes = new TextEncoder().encode(JSON.stringify(claims));
    return `x.${btoa(String.fromCharCode(...bytes)).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '')}.y`;
  };
  expect(describeToken(token({ sub: 'ada', name: 'Zoë', video: { room: 'blå' } }))).toEqual({
    room: 'blå',
    name: 'Zoë',
  });
  expect(describeToken(token({ sub: 'ada', video: { room: 'blue' } }))?.name).toBe('ada');
  for (const odd of ['', 'a', 'a.b.c', token({}), token({ video: {} })]) {
    expect(describeToken(odd), odd).toBeUndefined();
  }
});
