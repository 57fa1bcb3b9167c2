import { expect, test } from 'vitest';

import { Api, ApiError, canBeToken } from './api';

const never = new AbortController().signal;

/** An API that answers everything so, and what it was asked. */
function answering(status: number, body: string) {
  const asked: { url: string; init: RequestInit | undefined }[] = [];
  const ask = (url: unknown, init?: RequestInit) => {
    asked.push({ url: String(url), init });
    return Promise.resolve(new Response(body, { status }));
  };
  return { asked, ask: ask as typeof fetch };
}

async function failure(status: number, body: string): Promise<ApiError> {
  const { ask } = answering(status, body);
  const error: unknown = await new Api('', ask).nodes(never).then(() => undefined, (error: unknown) => error);
  if (!(error instanceof ApiError)) throw new Error(`no failure but ${String(error)}`);
  return error;
}

test('the token goes along in a header and nowhere else', async () => {
  const { asked, ask } = answering(200, '{"nodes":[]}');
  await new Api('s3cret', ask).nodes(never);
  await new Api('', ask).nodes(never);
  expect(asked.map(({ url }) => url)).toEqual(['/nodes', '/nodes']);
  expect(asked.map(({ init }) => init?.headers)).toEqual([{ Authorization: 'Bearer s3cret' }, {}]);
});

test('what is asked for is named safely', async () => {
  const { asked, ask } = answering(200, '{"tracks":[],"mute":[],"nodes":[]}');
  const api = new Api('', ask);
  await api.tree('a/b?c', never);
  await api.prospect('a&b', 'eu west', never);
  await api.drain('node-a', true);
  await api.drain('node-a', false);
  expect(asked.map(({ url }) => url)).toEqual([
    '/rooms/a%2Fb%3Fc/tree?format=json',
    '/placements?room=a%26b&region=eu+west',
    '/nodes/node-a/drain',
    '/nodes/node-a/undrain',
  ]);
  expect(asked.map(({ init }) => init?.method)).toEqual(['GET', 'GET', 'POST', 'POST']);
});

test.each([
  [401, '{"error":"the token is missing or wrong"}', 'token', 'the token is missing or wrong'],
  [403, '{"error":"no pages"}', 'refused', 'no pages'],
  [404, '{"error":"there is no such room"}', 'missing', 'there is no such room'],
  [503, '{"error":"Redis is away"}', 'failed', 'Redis is away'],
  [502, '<html>', 'failed', 'it answers with status 502'],
  [200, '<html>', 'unreachable', 'what answers is not the admin API'],
  [200, '{"rooms":[]}', 'unreachable', 'what answers is not the admin API'],
  [200, 'null', 'unreachable', 'what answers is not the admin API'],
])('%i %s', async (status, body, expected, message) => {
  const error = await failure(status, body);
  expect([error.failure, error.message]).toEqual([expected, message]);
});

test('nobody there', async () => {
  const ask = () => Promise.reject(new TypeError('Failed to fetch'));
  await expect(new Api('', ask).nodes(never)).rejects.toMatchObject({ failure: 'unreachable', message: 'nobody answers' });
});

test('what cannot be a token is not sent', () => {
  expect(['9b1e6f2c+/=', 'with space', 'Größe', '', 'a\nb'].map(canBeToken)).toEqual([true, false, false, false, false]);
});
