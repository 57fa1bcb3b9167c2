import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { createServer } from 'node:net';

import { expect, it } from 'vitest';

import { freePorts } from './ports';

it('gives no port twice, and none that the system gives to others', async () => {
  const ports: number[] = [];
  for (let round = 0; round < 50; round += 1) ports.push(...(await freePorts(3)));
  expect(new Set(ports).size).toBe(150);
  expect(Math.max(...ports)).toBeLessThan(32_768);
});

it('gives none that is taken, for TCP or for UDP', async () => {
  const [port = 0] = await freePorts(1);
  const server = createServer().listen(port + 1, '127.0.0.1');
  await once(server, 'listening');
  const socket = createSocket('udp4');
  socket.bind(port + 2, '127.0.0.1');
  await once(socket, 'listening');
  const ports = await freePorts(3);
  server.close();
  socket.close();
  expect(ports).not.toContain(port + 1);
  expect(ports).not.toContain(port + 2);
});
