import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';

import { inWords, measuredWithin, nearestOf, surveyRegions, withWhereabouts } from './regions';

const PAGE = 'https://x.test/?room=blue';

/** How long each answer of each server takes; the clock is ours. */
let servers: Map<string, (number | Error)[]>;
let list: unknown;
let asked: string[];
let now: number;

beforeEach(() => {
  servers = new Map();
  asked = [];
  now = 0;
  vi.stubGlobal('performance', { now: () => now });
  vi.stubGlobal('fetch', (url: URL) => {
    asked.push(url.toString());
    if (url.pathname === '/settings/regions') {
      if (list instanceof Error) return Promise.reject(list);
      return Promise.resolve(new Response(JSON.stringify(list)));
    }
    const took = servers.get(url.host)?.shift();
    if (took === undefined || took instanceof Error) return Promise.reject(took ?? new TypeError('nobody there'));
    now += took;
    return Promise.resolve(new Response(null, { status: 204 }));
  });
});

afterEach(() => vi.unstubAllGlobals());

function regions(...names: string[]) {
  return { regions: names.map((region) => ({ region, url: `wss://${region}.test`, distance: '0' })) };
}

describe('regions', () => {
  test('are measured by their shortest answer after the first one', async () => {
    list = regions('eu', 'us', 'ap');
    // One at a time: with one clock for all, they would measure each other.
    servers.set('eu.test', [0, 0, 0, 0]);
    servers.set('us.test', [300, new TypeError('gone')]);
    const { regions: listed, roundTrips } = await surveyRegions(PAGE);
    expect([...roundTrips.keys()]).toEqual(['eu']);
    // Those that do not answer can be chosen all the same.
    expect(listed).toEqual(['eu', 'us', 'ap']);
    expect(asked).toContain('https://x.test/settings/regions');
    expect(asked.filter((url) => url === 'https://eu.test/rtt')).toHaveLength(4);

    list = regions('eu', 'nowhere');
    servers.set('eu.test', [90, 14, 12, 17]);
    expect((await surveyRegions(PAGE)).roundTrips).toEqual(new Map([['eu', 12]]));
  });

  test('are left alone if there is one, or the list makes no sense', async () => {
    for (const answer of [regions('eu'), {}, { regions: [{ region: 'eu' }, {}] }, new TypeError('offline')]) {
      asked = [];
      list = answer;
      expect((await surveyRegions(PAGE)).roundTrips).toEqual(new Map());
      expect(asked).toEqual(['https://x.test/settings/regions']);
    }
  });

  test('do not keep anybody waiting', async () => {
    vi.useFakeTimers();
    const never = measuredWithin(new Promise(() => undefined), 500);
    await vi.advanceTimersByTimeAsync(500);
    expect(await never).toEqual(new Map());
    vi.useRealTimers();
    const known = new Map([['eu', 12]]);
    expect(await measuredWithin(Promise.resolve(known), 500)).toBe(known);
  });
});

test('the server is told of the three that are nearest', () => {
  const check = (region: string, roundTrips: [string, number][], expected: string) =>
    expect(decodeURIComponent(withWhereabouts('wss://x.test', region, new Map(roundTrips)))).toBe(expected);
  check('', [], 'wss://x.test/');
  check('eu', [], 'wss://x.test/?region=eu');
  check('', [['us', 95.4], ['eu', 11.6]], 'wss://x.test/?regions=eu:12,us:95');
  check('', [['a', 4], ['b', 3], ['c', 2], ['d', 1]], 'wss://x.test/?regions=d:1,c:2,b:3');
  check('us', [['eu', 123_456]], 'wss://x.test/?region=us&regions=eu:10000');
});

test('regions to choose from, the nearest first, those that did not answer last', () => {
  const roundTrips = new Map([['eu', 80.4], ['us', 0.3]]);
  expect(inWords({ regions: ['sa', 'eu', 'us'], roundTrips }).map(({ words }) => words)).toEqual(['us, 1 ms', 'eu, 80 ms', 'sa']);
});

test('the nearest is the one that signaling prefers, of those that are about as near', () => {
  const check = (trips: [string, number][], expected: string | undefined) =>
    expect(nearestOf({ regions: ['eu', 'us', 'sa'], roundTrips: new Map(trips) })).toBe(expected);
  check([['eu', 9], ['us', 4], ['sa', 90]], 'eu');
  check([['eu', 80], ['us', 4], ['sa', 9]], 'us');
  check([['sa', 90]], 'sa');
  check([], 'eu');
  expect(nearestOf({ regions: [], roundTrips: new Map() })).toBeUndefined();
});
