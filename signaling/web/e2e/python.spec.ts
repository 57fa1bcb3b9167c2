// Another SDK, another WebRTC library, another language: the same call.

import { expect, test } from '@playwright/test';

import { PythonPeer } from './harness/python';
import { scene } from './harness/scene';

const stage = scene();

test('the Python SDK and two browsers share a room', async () => {
  const [ada, ben] = await stage.people('snake', ['ada', 'ben']);
  if (!ada || !ben) throw new Error('two people were asked for');
  const python = await PythonPeer.join(stage.mesh.webSocketUrl, await stage.mesh.token('snake', 'monty'));
  try {
    for (const browser of [ada, ben]) {
      await browser.sees('monty');
      await browser.hears('monty');
    }
    await python.hasReported('to see and hear both browsers', ({ event, frames = {}, samples = {}, loudest = {} }) =>
      event === 'counters' &&
      ['ada', 'ben'].every((it) => (frames[it] ?? 0) > 30 && (samples[it] ?? 0) > 96_000 && (loudest[it] ?? 0) > 500),
    );

    for (const reliable of [true, false]) {
      const topic = `to-python-${reliable}`;
      await ada.call('sendWords', 'hello', { reliable, topic, destinationIdentities: ['monty'] });
      const heard = await python.hasReported(`to hear of ${topic}`, (it) => it.event === 'data' && it.topic === topic);
      expect(heard).toMatchObject({ from: 'ada', text: 'hello' });
      const back = `from-python-${reliable}`;
      python.send({ do: 'send', text: 'ssss', reliable, topic: back, to: ['ben'] });
      const said = await ben.notices(back, (it) => it.kind === 'data' && it.topic === back);
      expect(said).toMatchObject({ from: 'monty', text: 'ssss', reliable });
    }
    python.send({ do: 'send', text: 'x', times: 15_000, reliable: true, topic: 'large' });
    expect(await ada.notices('15 kB', (it) => it.kind === 'data' && it.topic === 'large')).toMatchObject({ length: 15_000 });
    expect(await ada.count((it) => it.kind === 'data' && it.topic.startsWith('from-python'))).toBe(0);

    await ben.call('leave');
    await python.hasReported('to see ben leaving', (it) => it.event === 'left' && it.identity === 'ben');
  } finally {
    await python.leave();
  }
  await ada.notices('monty leaving', (it) => it.kind === 'left' && it.identity === 'monty');
});
