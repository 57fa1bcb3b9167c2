// LiveKit's server SDK, unmodified: it looks after a room with browsers in it, and receives webhooks.

import { once } from 'node:events';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { type IncomingMessage, createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { expect, test } from '@playwright/test';
import { DataPacket_Kind, RoomServiceClient, type WebhookEvent, WebhookReceiver } from 'livekit-server-sdk';

import { Mesh } from './harness/mesh';
import { Scene } from './harness/scene';
import { until } from './harness/wait';

/** Of the demo. */
const KEY = ['devkey', 'secret'] as const;

const stage = new Scene();
const told: WebhookEvent[] = [];

const service = createServer((request, response) => {
  body(request)
    .then((text) => new WebhookReceiver(...KEY).receive(text, request.headers.authorization))
    .then((event) => {
      told.push(event);
      response.writeHead(200).end();
    }, (error: unknown) => response.writeHead(400).end(String(error)));
});

let rooms: RoomServiceClient;
test.beforeAll(async () => {
  service.listen(0, '127.0.0.1');
  await once(service, 'listening');
  const { port } = service.address() as AddressInfo;
  // Addresses may hold secrets, so they are no flag.
  const urls = join(mkdtempSync(join(tmpdir(), 'pipemesh-')), 'urls');
  writeFileSync(urls, `http://127.0.0.1:${port}/`, { mode: 0o600 });
  await stage.start(Mesh.startApart(['--webhook-urls-file', urls]));
  rooms = new RoomServiceClient(stage.mesh.origin, ...KEY);
});
test.afterEach(() => stage.clear(test.info().status !== test.info().expectedStatus));
test.afterAll(async () => {
  await stage.stop();
  service.close();
});

test('a room is opened, looked after and deleted', async () => {
  const room = 'looked-after';
  const opened = await rooms.createRoom({ name: room, emptyTimeout: 60, maxParticipants: 5, metadata: 'daily' });
  expect([opened.name, opened.emptyTimeout, opened.maxParticipants, opened.metadata]).toEqual([room, 60, 5, 'daily']);
  const [ada, ben] = await stage.people(room, ['ada', 'ben']);
  if (!ada || !ben) throw new Error('there are two');
  await until(15_000, 'four tracks', async () => (await rooms.listParticipants(room)).flatMap(({ tracks }) => tracks).length === 4);
  const [listed] = await rooms.listRooms([room]);
  expect([listed?.sid, listed?.numParticipants]).toEqual([opened.sid, 2]);

  const { tracks } = await rooms.getParticipant(room, 'ada');
  const sid = tracks[0]?.sid ?? '';
  const muted = await rooms.mutePublishedTrack(room, 'ada', sid, true);
  expect([muted.sid, muted.muted]).toEqual([sid, true]);
  const changed = await rooms.updateParticipant(room, 'ben', {
    name: 'Ben',
    metadata: 'host',
    attributes: { hand: 'up' },
    permission: { canPublish: false, canSubscribe: true, canPublishData: true },
  });
  expect([changed.name, changed.metadata, changed.attributes.hand]).toEqual(['Ben', 'host', 'up']);
  expect((await rooms.getParticipant(room, 'ben')).tracks).toEqual([]);
  await rooms.updateSubscriptions(room, 'ben', [sid], false);
  await rooms.updateRoomMetadata(room, 'on air');
  await rooms.sendData(room, new TextEncoder().encode('hello'), DataPacket_Kind.RELIABLE, { topic: 'greeting' });
  for (const one of [ada, ben]) await one.notices('data', (it) => it.kind === 'data' && it.topic === 'greeting');

  await rooms.removeParticipant(room, 'ben');
  await ben.notices('being sent away', (it) => it.kind === 'disconnected');
  expect((await rooms.listParticipants(room)).map(({ identity }) => identity)).toEqual(['ada']);
  await rooms.deleteRoom(room);
  await ada.notices('being sent away', (it) => it.kind === 'disconnected');
  expect(await rooms.listRooms([room])).toEqual([]);
  await expect(rooms.getParticipant(room, 'ada')).rejects.toMatchObject({ status: 404, code: 'not_found' });

  await until(15_000, 'the end of the room', async () => Promise.resolve(told.some(({ event }) => event === 'room_finished')));
  const count = (name: string) => told.filter(({ event, room: of }) => event === name && of?.sid === opened.sid).length;
  const names = ['room_started', 'participant_joined', 'track_published', 'track_unpublished', 'participant_left', 'room_finished'];
  expect(names.map(count)).toEqual([1, 2, 4, 4, 2, 1]);
});

async function body(request: IncomingMessage): Promise<string> {
  const parts: Buffer[] = [];
  for await (const part of request) parts.push(part as Buffer);
  return Buffer.concat(parts).toString();
}
