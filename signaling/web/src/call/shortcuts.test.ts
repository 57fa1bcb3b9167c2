import { expect, test } from 'vitest';

import { MEANINGS, SHORTCUTS, meaning, takenKeys } from './shortcuts';

const press = (key: string, more: object = {}) => ({ key, ctrlKey: false, altKey: false, metaKey: false, repeat: false, ...more });

test('keys mean what the list says, in either case', () => {
  expect(meaning(press('m'), 'none')).toBe('microphone');
  expect(meaning(press('M'), 'none')).toBe('microphone');
  expect(meaning(press('PageDown'), 'none')).toBe('next');
  expect(meaning(press('x'), 'none')).toBeUndefined();
  expect(MEANINGS.map(([name]) => name).sort()).toEqual(Object.keys(SHORTCUTS).sort());
  expect(new Set(Object.values(SHORTCUTS)).size).toBe(MEANINGS.length);
});

test('text, and what browsers do with keys, is left alone', () => {
  expect(meaning(press('m'), 'all')).toBeUndefined();
  for (const held of ['ctrlKey', 'altKey', 'metaKey', 'repeat']) expect(meaning(press('m', { [held]: true }), 'none')).toBeUndefined();
});

test('lists that scroll keep the page keys, and nothing else', () => {
  expect(meaning(press('PageDown'), 'paging')).toBeUndefined();
  expect(meaning(press('PageUp'), 'paging')).toBeUndefined();
  expect(meaning(press('p'), 'paging')).toBe('people');
});

test('what is in front takes keys wherever the focus is', () => {
  /** A page that has these elements, and the focus in that one. */
  const page = (has: string[], focused: string) => {
    const finds = (selectors: string, all: string[]) => (selectors.split(', ').some((it) => all.includes(it)) ? {} : null);
    const activeElement = { closest: (selectors: string) => finds(selectors, [focused]) };
    return { querySelector: (selectors: string) => finds(selectors, has), activeElement } as unknown as Document;
  };
  expect(takenKeys(page([], 'body'))).toBe('none');
  expect(takenKeys(page(['dialog'], 'body'))).toBe('none');
  expect(takenKeys(page(['dialog[open]'], 'body'))).toBe('all');
  expect(takenKeys(page([], 'input'))).toBe('all');
  expect(takenKeys(page([], '.roster'))).toBe('paging');
});
