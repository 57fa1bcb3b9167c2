import { expect, test } from 'vitest';

import { recallChoices, rememberChoices } from './memory';

function memory(content?: string) {
  const kept = new Map<string, string>(content === undefined ? [] : [['pipemesh.choices', content]]);
  return {
    getItem: (key: string) => kept.get(key) ?? null,
    setItem: (key: string, value: string) => void kept.set(key, value),
  };
}

test('choices are remembered one by one', () => {
  const kept = memory();
  rememberChoices(kept, { cameraId: 'front', camera: false });
  rememberChoices(kept, { region: 'west', perPage: 49 });
  expect(recallChoices(kept)).toMatchObject({ cameraId: 'front', camera: false, microphone: true, region: 'west', perPage: 49 });
  rememberChoices(kept, { region: '' });
  expect(recallChoices(kept).region).toBeUndefined();
});

test('what makes no sense is as usual', () => {
  for (const content of ['', 'null', '7', '{', '{"camera":"yes","perPage":1000,"region":7}']) {
    expect(recallChoices(memory(content))).toMatchObject({ camera: true, perPage: 25, shortcuts: true });
  }
});

test('a browser that keeps nothing does not matter', () => {
  const full = { getItem: () => null, setItem: () => { throw new Error('quota'); } };
  expect(() => rememberChoices(full, { camera: false })).not.toThrow();
});
