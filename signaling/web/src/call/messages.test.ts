import { expect, test } from 'vitest';

import { type Chat, withMessage } from './messages';

const said = { identity: 'ada', name: 'Ada', own: false, at: 0, text: 'hello' };
const nothing: Pick<Chat, 'messages' | 'received'> = { messages: [], received: 0 };

test('messages are counted by the page, and those of others apart', () => {
  const two = withMessage(withMessage(nothing, said), { ...said, own: true });
  expect(two.messages.map(({ id }) => id)).toEqual([1, 2]);
  expect(two.received).toBe(1);
});

test('no more is kept than a page can hold', () => {
  let known = withMessage(nothing, { ...said, text: 'x'.repeat(1_000_000) });
  expect(known.messages[0]?.text).toHaveLength(10_000);
  for (let count = 0; count < 600; count += 1) known = withMessage(known, said);
  expect(known.messages).toHaveLength(500);
  expect(new Set(known.messages.map(({ id }) => id)).size).toBe(500);
  expect(known.received).toBe(601);
});
