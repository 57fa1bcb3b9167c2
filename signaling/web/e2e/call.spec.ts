// Three people in a call: media, layers, muting, screens, messages, changes of what is known of a person.

import { expect, test } from '@playwright/test';

import type { Peer } from './harness/peer';
import { scene } from './harness/scene';
import { until } from './harness/wait';

const stage = scene();

const modes = [
  { single: true, name: 'one peer connection' },
  { single: false, name: 'two peer connections' },
];

test('people in two regions of the demo are on two nodes, and together', async () => {
  stage.mesh.regions.set('west', 'west');
  const [east, west] = await stage.people('regions', ['east', 'west']);
  if (!east || !west) throw new Error('there are two');
  for (const [one, other] of pairs([east, west])) {
    await one.sees(other.identity);
    await one.hears(other.identity);
  }
  const nodes = (await stage.mesh.metrics()).split('\n').filter((line) => /^pipemesh_pipe_tracks{direction="in".* 2$/.test(line));
  expect(nodes).toHaveLength(2);
});

for (const { single, name } of modes) {
  test.describe(name, () => {
    test('each of three sees and hears the two others', async () => {
      const people = await stage.people(`meet-${single}`, ['ada', 'ben', 'cleo'], single);
      for (const [one, other] of pairs(people)) {
        await one.sees(other.identity);
        await one.hears(other.identity);
      }
    });

    test('the size follows what the receiver wants', async () => {
      const [ada, ben] = await two(`size-${single}`, single);
      await ben.seesSize('ada', ({ frameWidth }) => frameWidth === 640, 'in full size');
      await ben.call('setQuality', 'ada', 'low');
      await ben.seesSize('ada', ({ frameWidth }) => frameWidth === 320, 'in the lowest quality');
      await ben.call('setDimensions', 'ada', 640, 360);
      await ben.seesSize('ada', ({ frameWidth }) => frameWidth === 640, 'at 640x360');
      await ben.call('setDimensions', 'ada', 160, 90);
      await ben.seesSize('ada', ({ frameWidth }) => frameWidth === 320, 'at 160x90');
      await ada.sees('ben');
    });

    test('muting is seen, and nothing is sent meanwhile', async () => {
      const [ada, ben] = await two(`mute-${single}`, single);
      for (const source of ['camera', 'microphone'] as const) {
        const bytes = async () =>
          (source === 'camera' ? await ben.call('video', 'ada') : await ben.call('audio', 'ada'))?.bytesReceived ?? 0;
        await ada.call('setMuted', source, true);
        await ben.notices(`${source} muted`, (it) => it.kind === 'muted' && it.identity === 'ada' && it.source === source);
        await until(10_000, `the bytes of the ${source} to stop`, () => still(bytes));
        await ada.call('setMuted', source, false);
        await ben.notices(`${source} unmuted`, (it) => it.kind === 'unmuted' && it.identity === 'ada' && it.source === source);
        await (source === 'camera' ? ben.sees('ada') : ben.hears('ada'));
      }
    });

    test('a screen is shared beside the camera', async () => {
      const [ada, ben] = await two(`screen-${single}`, single);
      await ada.call('publishScreen');
      await ben.sees('ada', 'screen_share', 5);
      await ben.sees('ada', 'camera');
      await ada.call('unpublish', 'screen_share');
      await ben.notices('the end of the screen', (it) => it.kind === 'unsubscribed' && it.source === 'screen_share');
      await ben.sees('ada', 'camera');
    });

    test('somebody who comes late sees all, somebody who leaves is seen leaving', async () => {
      const [ada, ben] = await two(`late-${single}`, single);
      const cleo = await stage.peer(`late-${single}`, 'cleo');
      await cleo.enter(single);
      for (const [one, other] of pairs([ada, ben, cleo])) {
        await one.sees(other.identity);
        await one.hears(other.identity);
      }
      await cleo.call('leave');
      for (const one of [ada, ben]) {
        await one.notices('cleo leaving', (it) => it.kind === 'left' && it.identity === 'cleo');
      }
      await ada.sees('ben');
    });

    test('messages reach those they are for', async () => {
      const room = `data-${single}`;
      const [ada, ben] = await two(room, single);
      const cleo = await stage.peer(room, 'cleo');
      await cleo.join(single);
      const dan = await stage.peer(room, 'dan');
      await dan.join(single);
      await ada.meets('cleo');
      await ada.meets('dan');

      // To all, reliable: in order, each once, in both directions.
      const words = Array.from({ length: 30 }, (_, index) => `word ${index}`);
      for (const one of [ada, cleo]) {
        for (const word of words) await one.call('sendWords', word, { reliable: true, topic: `from-${one.identity}` });
      }
      for (const [sender, receivers] of [['ada', [ben, cleo, dan]], ['cleo', [ada, ben, dan]]] as const) {
        for (const receiver of receivers) {
          await receiver.notices('the last word', (it) => it.kind === 'data' && it.from === sender && it.text === words.at(-1));
          expect(await texts(receiver, `from-${sender}`)).toEqual(words);
        }
      }

      // To all, lossy: nothing is lost between processes of one machine but what is chosen to be.
      for (const word of words) await ada.call('sendWords', word, { reliable: false, topic: 'lossy' });
      await until(10_000, 'most lossy words', async () => (await texts(ben, 'lossy')).length >= 20);
      expect(new Set(await texts(ben, 'lossy')).size).toBe((await texts(ben, 'lossy')).length);

      // To some. The word to all behind it says that nothing more is to come.
      for (const reliable of [true, false]) {
        const topic = `some-${reliable}`;
        const to = { reliable, topic, destinationIdentities: ['ben', 'dan'] };
        await ada.call('sendWords', 'for ben and dan', to);
        for (const receiver of [ben, dan]) {
          await receiver.notices('a word for some', (it) => it.kind === 'data' && it.topic === topic);
        }
        await ada.call('sendWords', 'for all', { reliable: true, topic: `${topic}-end` });
        await cleo.notices('the end', (it) => it.kind === 'data' && it.topic === `${topic}-end`);
        expect(await texts(cleo, topic)).toEqual([]);
      }
    });

    test('large messages arrive whole', async () => {
      const [ada, ben] = await two(`large-${single}`, single);
      await ada.call('sendData', 60_000, { reliable: true, topic: 'large' });
      const packet = await ben.notices('60 kB', (it) => it.kind === 'data' && it.topic === 'large');
      expect(packet).toMatchObject({ from: 'ada', length: 60_000, reliable: true });

      await ben.call('receiveText', 'long');
      await ben.call('receiveText', 'chat');
      const long = Array.from({ length: 12_500 }, (_, index) => `${index % 10}`.repeat(8)).join('');
      await ada.call('sendText', long, 'long');
      const text = await ben.notices('100 kB', (it) => it.kind === 'text' && it.topic === 'long');
      expect(text).toMatchObject({ from: 'ada', length: 100_000, sum: checksum(long) });

      await ada.call('sendText', 'Hello, ben!', 'chat', ['ben']);
      const chat = await ben.notices('a chat message', (it) => it.kind === 'text' && it.topic === 'chat');
      expect(chat).toMatchObject({ from: 'ada', text: 'Hello, ben!' });
      await ben.sees('ada');
    });

    test('what is known of a person changes for all', async () => {
      const [ada, ben] = await two(`known-${single}`, single);
      await ada.call('setMetadata', '{"hand":"up"}');
      await ben.notices('metadata', (it) => it.kind === 'metadata' && it.identity === 'ada' && it.metadata === '{"hand":"up"}');
      await ada.call('setAttributes', { mood: 'fine', seat: '7' });
      await ben.notices('attributes', (it) => it.kind === 'attributes' && it.identity === 'ada' && it.changed.seat === '7');
      await ada.call('setAttributes', { seat: '' });
      await until(10_000, 'an attribute to go', async () => {
        const seen = (await ben.call('participants')).find(({ identity }) => identity === 'ada');
        return seen?.attributes.mood === 'fine' && !('seat' in seen.attributes);
      });

      // Who comes later knows it too.
      const cleo = await stage.peer(`known-${single}`, 'cleo');
      await cleo.join(single);
      const seen = (await cleo.call('participants')).find(({ identity }) => identity === 'ada');
      expect(seen).toMatchObject({ metadata: '{"hand":"up"}', attributes: { mood: 'fine' } });
    });

    test('who speaks is known', async () => {
      const ada = await stage.peer(`speak-${single}`, 'ada');
      const ben = await stage.peer(`speak-${single}`, 'ben');
      await ada.join(single);
      await ben.enter(single);
      await ada.page.mouse.click(1, 1);
      await ada.call('publishVoice');
      await ben.notices('a speaker', (it) => it.kind === 'speakers' && it.identities.includes('ada'));
      await ada.call('setMuted', 'microphone', true);
      await ben.notices('the end of the speech', (it) => it.kind === 'speakers' && !it.identities.includes('ada'));
    });

    test('a track is let go and taken again', async () => {
      const [, ben] = await two(`take-${single}`, single);
      await ben.sees('ada');
      await ben.call('setSubscribed', 'ada', 'camera', false);
      await ben.notices('the end of the track', (it) => it.kind === 'unsubscribed' && it.source === 'camera');
      await ben.hears('ada');
      await ben.call('setSubscribed', 'ada', 'camera', true);
      await ben.sees('ada');
    });
  });
}

test('both kinds of clients meet', async () => {
  const ada = await stage.peer('mixed', 'ada');
  const ben = await stage.peer('mixed', 'ben');
  await ada.enter(true);
  await ben.enter(false);
  for (const [one, other] of pairs([ada, ben])) {
    await one.sees(other.identity);
    await one.hears(other.identity);
  }
});

async function two(room: string, single: boolean): Promise<[Peer, Peer]> {
  const [ada, ben] = await stage.people(room, ['ada', 'ben'], single);
  if (!ada || !ben) throw new Error('two people were asked for');
  await ada.sees('ben');
  await ben.sees('ada');
  return [ada, ben];
}

function pairs(people: Peer[]): [Peer, Peer][] {
  return people.flatMap((one) => people.filter((other) => other !== one).map((other): [Peer, Peer] => [one, other]));
}

async function texts(peer: Peer, topic: string): Promise<string[]> {
  const happenings = await peer.call('happenings');
  return happenings.flatMap((it) => (it.kind === 'data' && it.topic === topic ? [it.text] : []));
}

/** Whether a count stands still for half a second. */
async function still(count: () => Promise<number>): Promise<boolean> {
  const before = await count();
  const end = Date.now() + 500;
  while (Date.now() < end) {
    if ((await count()) !== before) return false;
  }
  return true;
}

/** The same as the page computes over what it received. */
function checksum(text: string): number {
  return new TextEncoder().encode(text).reduce((sum, byte) => (sum * 31 + byte) >>> 0, 7);
}
