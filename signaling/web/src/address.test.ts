import { describe, expect, test } from 'vitest';

import { forgetStay, invitation, makeIdentity, ownServer, readWish, recallStay, rememberStay } from './address';

describe('the address', () => {
  test('says what is wanted', () => {
    const empty = { room: '', name: '', token: '', region: '' };
    const check = (search: string, expected: object) =>
      expect(readWish(search)).toEqual({ ...empty, ...expected });
    check('', {});
    check('?room=blue&name=Ada', { room: 'blue', name: 'Ada' });
    check('?room=%20blue%20sky&region=eu', { room: 'blue sky', region: 'eu' });
    check('?token=a.b.c', { token: 'a.b.c' });
  });

  test('is given to others without name and token', () => {
    const page = 'https://x.test/?room=old&name=Ada&token=a.b.c&region=eu#part';
    expect(invitation(page, 'blue sky')).toBe('https://x.test/?room=blue+sky&region=eu');
  });

  test('is where the server is', () => {
    expect(ownServer('https://x.test/?room=a')).toBe('wss://x.test');
    expect(ownServer('http://127.0.0.1:7880/')).toBe('ws://127.0.0.1:7880');
  });
});

describe('a stay', () => {
  const memory = () => {
    const items = new Map<string, string>();
    return {
      getItem: (key: string) => items.get(key) ?? null,
      setItem: (key: string, value: string) => void items.set(key, value),
      removeItem: (key: string) => void items.delete(key),
    };
  };

  test('outlives a reload', () => {
    const storage = memory();
    const stay = { room: 'blue', name: 'Ada', identity: 'ada-01', camera: true, microphone: false };
    expect(recallStay(storage)).toBeUndefined();
    rememberStay(storage, stay);
    expect(recallStay(storage)).toEqual(stay);
    forgetStay(storage);
    expect(recallStay(storage)).toBeUndefined();
  });

  test('that makes no sense is none', () => {
    for (const text of ['', 'null', '{', '[]', '{"room":"blue"}']) {
      const storage = memory();
      storage.setItem('pipemesh.stay', text);
      expect(recallStay(storage), text).toBeUndefined();
    }
  });
});

test('an identity is made of the name', () => {
  const random = new Uint8Array([1, 171]);
  const check = (name: string, expected: string) =>
    expect(makeIdentity(name, random)).toBe(expected);
  check('Ada', 'ada-01ab');
  check('Ada Lovelace!', 'ada-lovelace-01ab');
  check('Zoë', 'zoe-01ab');
  check('日本', 'guest-01ab');
});
