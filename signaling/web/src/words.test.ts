import { ConnectionError, DisconnectReason } from 'livekit-client';
import { expect, test } from 'vitest';

import { deviceTrouble, endOfCall, hue, initials, isFull, joinTrouble, movedTo, names, people } from './words';

const named = (name: string) => Object.assign(new Error('technical'), { name });

test('a device that does not work says what helps', () => {
  const check = (name: string, expected: string) =>
    expect(deviceTrouble('camera', named(name))).toContain(expected);
  check('NotAllowedError', 'Allow it in the address bar');
  check('NotFoundError', 'No camera was found');
  check('NotReadableError', 'in use by another program');
  check('InsecureContext', 'https or on localhost');
  check('Odd', 'You can join without it');
  expect(deviceTrouble('microphone', undefined)).toContain('microphone');
});

test('a join that fails says why', () => {
  const check = (error: unknown, expected: string) => expect(joinTrouble(error)).toContain(expected);
  check(ConnectionError.notAllowed('x', 401), 'did not accept the token');
  check(ConnectionError.serverUnreachable('x'), 'cannot be reached');
  check(ConnectionError.internal('x', { status: 451 }), 'allows no region');
  check(ConnectionError.internal('x', { status: 503 }), 'No server can take you');
  check(ConnectionError.internal('x', { status: 429 }), 'Too many people join');
  check(ConnectionError.internal('x', { status: 500 }), 'could not be set up');
  check(new TypeError('Failed to fetch'), 'cannot be reached');
  check(new Error('This server needs a token.'), 'needs a token');
  check('odd', 'did not work');
});

test('only an unwanted end needs words', () => {
  expect(endOfCall(DisconnectReason.CLIENT_INITIATED)).toBeUndefined();
  expect(endOfCall(DisconnectReason.DUPLICATE_IDENTITY)).toContain('somewhere else');
  expect(endOfCall(undefined)).toContain('lost');
});

test('people are counted and abbreviated', () => {
  expect([1, 2].map(people)).toEqual(['Only you', '2 people']);
  expect(['Ada', 'ada king lovelace', '', '  Zoë  B', '日本'].map(initials)).toEqual(['A', 'AL', '?', 'ZB', '日']);
  expect(hue('ada', 6)).toBe(hue('ada', 6));
  expect(hue('ada', 6)).toBeLessThan(6);
});

test('a full room is told from what the server says', () => {
  expect(isFull('room has exceeded its max participants')).toBe(true);
  expect(isFull('too many joins from this address, try again later')).toBe(false);
});

test('moves and names in words', () => {
  expect(movedTo({ node: 'node-b', region: 'west' })).toBe('You were moved to another server, node-b in west. The call goes on.');
  expect(movedTo({ node: 'node-b', region: '' })).toContain('server, node-b.');
  expect([['Ada'], ['Ada', 'Ben'], ['Ada', 'Ben', 'Cleo'], []].map(names)).toEqual(['Ada', 'Ada and Ben', 'Ada and 2 others', '']);
});
