import { expect, test } from 'vitest';

import { follow } from './hands';

test('a hand is news when it is raised, not when another one is lowered', () => {
  const first = { up: ['ada', 'ben'], fresh: [] };
  expect(follow(first, ['ben', 'ada'])).toBe(first);
  expect(follow(first, ['ada'])).toEqual({ up: ['ada'], fresh: [] });
  const more = follow(first, ['ada', 'ben', 'cleo']);
  expect(more.fresh).toEqual(['cleo']);
  expect(follow(more, ['ada', 'cleo', 'dan']).fresh).toEqual(['cleo', 'dan']);
  expect(follow(more, ['ada', 'ben']).fresh).toEqual([]);
  expect(follow(follow(more, ['ada', 'ben']), ['cleo']).fresh).toEqual(['cleo']);
});
