import { expect, test } from 'vitest';

import { ApiError } from './api';
import { staleOf } from './stale';

const error = new ApiError('unreachable', 'nobody answers');
const at = (time: number, failed = false) => ({ at: time, error: failed ? error : undefined });

test('nodes and pipes are the present while both are answered', () => {
  expect(staleOf(at(50_000), at(50_000), 0, 60_000)).toBeUndefined();
  expect(staleOf(at(49_000), at(50_000), 0, 60_000)?.of).toBe('nodes');
  expect(staleOf(at(60_000), at(49_000), 0, 60_000)).toEqual({ of: 'pipes', at: 49_000, error: undefined });
  expect(staleOf(at(60_000, true), at(30_000), 0, 60_000)).toEqual({ of: 'nodes', at: 30_000, error });
  expect(staleOf(at(60_000), at(60_000, true), 0, 60_000)).toEqual({ of: 'pipes', at: 60_000, error });
});

test('pipes that were never answered have no age', () => {
  expect(staleOf(at(60_000), at(0), 0, 60_000)).toBeUndefined();
  expect(staleOf(at(60_000), at(0, true), 0, 60_000)).toEqual({ of: 'pipes', at: 0, error });
});

test('whoever comes back to the page is not alarmed by what was not asked meanwhile', () => {
  expect(staleOf(at(50_000), at(50_000), 900_000, 905_000)).toBeUndefined();
  expect(staleOf(at(50_000), at(50_000), 900_000, 911_000)?.at).toBe(50_000);
});
