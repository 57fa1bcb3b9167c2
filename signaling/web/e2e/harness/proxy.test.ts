import { type RemoteInfo, type Socket, createSocket } from 'node:dgram';
import { once } from 'node:events';
import { afterEach, beforeEach, expect, test } from 'vitest';

import { UdpProxy, mulberry32 } from './proxy';

let node: Socket;
let client: Socket;
let port: number;
let proxy: UdpProxy | undefined;
let seenByNode: RemoteInfo[] = [];

beforeEach(async () => {
  proxy = undefined;
  seenByNode = [];
  node = createSocket('udp4');
  node.on('message', (datagram, from) => {
    seenByNode.push(from);
    node.send(datagram, from.port, from.address);
  });
  node.bind(0, '127.0.0.1');
  await once(node, 'listening');
  port = node.address().port;
  client = createSocket('udp4');
  client.bind(0, '127.0.0.1');
  await once(client, 'listening');
});

afterEach(() => {
  proxy?.stop();
  node.close();
  client.close();
});

async function echo(...bytes: number[]): Promise<number[]> {
  const answer = once(client, 'message') as Promise<[Buffer]>;
  client.send(Buffer.from(bytes), port, '127.0.0.2');
  return [...(await answer)[0]];
}

test('passes both ways, and a new path is a new port', async () => {
  proxy = await UdpProxy.start('127.0.0.2', '127.0.0.1', [port]);
  expect(await echo(128, 1)).toEqual([128, 1]);
  expect(await echo(22, 2)).toEqual([22, 2]);
  expect(new Set(seenByNode.map((from) => from.port)).size).toBe(1);
  expect(proxy.rebind()).toBe(1);
  expect(await echo(128, 3)).toEqual([128, 3]);
  expect(new Set(seenByNode.map((from) => from.port)).size).toBe(2);
});

test('loses DTLS and nothing else', async () => {
  proxy = await UdpProxy.start('127.0.0.2', '127.0.0.1', [port], { dtls: 1, seed: 1 });
  for (const first of [20, 22, 63]) client.send(Buffer.from([first]), port, '127.0.0.2');
  for (const first of [0, 1, 19, 64, 128, 255]) expect(await echo(first)).toEqual([first]);
  expect(proxy.counts).toEqual({ lost: 3, passed: 12 });
});

test('loses media and nothing else', async () => {
  proxy = await UdpProxy.start('127.0.0.2', '127.0.0.1', [port], { media: 1, seed: 1 });
  for (const first of [128, 191]) client.send(Buffer.from([first]), port, '127.0.0.2');
  for (const first of [0, 20, 63, 127, 192]) expect(await echo(first)).toEqual([first]);
  expect(proxy.counts).toEqual({ lost: 2, passed: 10 });
});

test('a narrow line lets through what it has room for, and no more', async () => {
  proxy = await UdpProxy.start('127.0.0.2', '127.0.0.1', [port]);
  await echo(128);
  // Ten kilobytes a second, two of them at once.
  proxy.narrow(80_000);
  const sleep = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));
  await sleep(300);
  let bytes = 0;
  client.on('message', ({ length }) => (bytes += length));
  for (let sent = 0; sent < 10; sent += 1) client.send(Buffer.alloc(1000, 128), port, '127.0.0.2');
  await sleep(100);
  expect(bytes).toBeGreaterThanOrEqual(1000);
  expect(bytes).toBeLessThanOrEqual(4000);
  proxy.narrow();
  expect(await echo(128, 7)).toEqual([128, 7]);
});

test('tells what is sent again from what is sent anew under the same number', async () => {
  proxy = await UdpProxy.start('127.0.0.2', '127.0.0.1', [port]);
  const { up, down } = proxy.compareRepeats();
  const packet = (number: number, payload: number) => [128, 111, 0, number, 0, 0, 0, 0, 0, 0, 0, 1, payload];
  for (const [number, payload] of [[1, 7], [2, 7], [1, 7], [2, 8]] as const) await echo(...packet(number, payload));
  await echo(128, 200, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 9);
  for (const way of [up, down]) expect(way.counts).toEqual({ same: 1, altered: 1 });
});

test('loses as much as it was told, the same for the same seed', () => {
  const draw = (seed: number) => Array.from({ length: 10_000 }, mulberry32(seed));
  expect(draw(7)).toEqual(draw(7));
  expect(draw(7)).not.toEqual(draw(8));
  const lost = draw(7).filter((value) => value < 0.2).length;
  expect(Math.abs(lost - 2000)).toBeLessThan(150);
});
