import { expect, test } from 'vitest';

import { type Seats, arrange, ofTile, paginate, seat, tileId } from './arrange';

const people = ['self', 'ada', 'ben', 'cleo'];
const usual: Seats = { people, screens: [], layout: 'auto', pinned: undefined, speaker: undefined, self: 'self' };

test('a grid until somebody shows a screen, whoever is wanted large, or the last who spoke', () => {
  const check = (changes: Partial<Seats>, main: string | undefined) => expect(arrange({ ...usual, ...changes }).main).toBe(main);
  check({}, undefined);
  check({ screens: ['ada', 'ben'] }, 'screen/ben');
  check({ screens: ['ada'], layout: 'grid' }, undefined);
  check({ pinned: 'camera/cleo', screens: ['ada'] }, 'camera/cleo');
  check({ pinned: 'camera/gone' }, undefined);
  check({ layout: 'focus', speaker: 'ben' }, 'camera/ben');
  check({ layout: 'focus', speaker: 'self' }, 'camera/ada');
  check({ layout: 'focus', speaker: 'gone' }, 'camera/ada');
  check({ layout: 'focus', people: ['self'] }, 'camera/self');
  check({ layout: 'focus', people: [] }, undefined);
});

test('every tile is somewhere, once', () => {
  const { main, rest } = arrange({ ...usual, screens: ['ada', 'ben'] });
  expect([main, ...rest]).toEqual(['screen/ben', 'screen/ada', 'camera/self', 'camera/ada', 'camera/ben', 'camera/cleo']);
});

test('a tile is of one person, whatever they are called', () => {
  expect(ofTile(tileId('screen', 'team/ada'))).toEqual(['screen', 'team/ada']);
  expect(ofTile(tileId('camera', 'screen/ada'))).toEqual(['camera', 'screen/ada']);
});

const here = (identity: string, spokeAt = 0, speaking = false) => ({ identity, spokeAt, speaking });

test('people keep their seats, and newcomers sit at the end', () => {
  expect(seat(['a', 'b', 'c'], ['c', 'a', 'd'].map((it) => here(it)), 4, 'a')).toEqual(['a', 'c', 'd']);
});

test('who speaks elsewhere changes with the quietest of the first page', () => {
  const present = [here('self'), here('a', 5), here('b', 3), here('c', 9, true), here('d', 1)];
  const order = seat(['self', 'a', 'b', 'c', 'd'], present, 3, 'self');
  expect(order).toEqual(['self', 'a', 'c', 'b', 'd']);
  // Who speaks on the first page stays, and nobody is moved twice for it.
  expect(seat(order, present, 3, 'self')).toEqual(order);
});

test('where all of the first page speak, nobody has to go', () => {
  const present = [here('self'), here('a', 5, true), here('b', 5, true)];
  expect(seat(['self', 'a', 'b'], present, 2, 'self')).toEqual(['self', 'a', 'b']);
});

test('pages are of about the same size, and a page that is gone is the last one', () => {
  const all = Array.from({ length: 31 }, (_, index) => index);
  const check = (most: number, wanted: number, expected: [pages: number, page: number, shown: number]) => {
    const { pages, page, shown } = paginate(all, most, wanted);
    expect([pages, page, shown.length]).toEqual(expected);
  };
  check(49, 0, [1, 0, 31]);
  check(25, 0, [2, 0, 16]);
  check(25, 1, [2, 1, 15]);
  check(25, 7, [2, 1, 15]);
  check(10, -1, [4, 0, 8]);
  expect(paginate([], 9, 3)).toEqual({ shown: [], page: 0, pages: 1, perPage: 1 });
});

test('every number of people from 2 to 49 is shown in full', () => {
  for (let count = 2; count <= 49; count += 1) {
    for (const most of [1, 4, 9, 16, 25, 49]) {
      const all = Array.from({ length: count }, (_, index) => index);
      const { pages } = paginate(all, most, 0);
      const shown = Array.from({ length: pages }, (_, page) => paginate(all, most, page).shown).flat();
      expect(shown).toEqual(all);
    }
  }
});
