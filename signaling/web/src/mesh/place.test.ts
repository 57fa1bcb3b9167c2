import { expect, test } from 'vitest';

import { type Place, linkTo, placeIn } from './place';

test('an address leads back to where it is from', () => {
  const places: Place[] = [{ at: 'mesh' }, { at: 'rooms', room: null }, { at: 'rooms', room: 'blue' }, { at: 'rooms', room: 'a/b ?#%ä' }];
  for (const place of places) expect(placeIn(linkTo(place))).toEqual(place);
});

test('any other address is the mesh', () => {
  expect(['', '#', '#/', '#/nothing/here', '#rooms'].map((it) => placeIn(it).at)).toEqual(['mesh', 'mesh', 'mesh', 'mesh', 'mesh']);
  expect(placeIn('#/rooms/50%')).toEqual({ at: 'rooms', room: '50%' });
});
