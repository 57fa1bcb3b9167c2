// Ports for programs that have to be told one before they listen.

import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { createServer } from 'node:net';

const HOST = '127.0.0.1';

/** The system gives ports from 32768 on to whoever asks for any, also one that a program of ours is yet to open. */
const FIRST = 10_240;
const END = 32_768;

let next = FIRST + Math.floor(Math.random() * (END - FIRST));

/** Free for TCP and UDP. None is given twice: who was promised one may open it later than the next one asks. */
export async function freePorts(count: number): Promise<number[]> {
  const ports: number[] = [];
  for (let tried = 0; ports.length < count; tried += 1) {
    if (tried === END - FIRST) throw new Error('no port is free');
    const port = next;
    next = port + 1 < END ? port + 1 : FIRST;
    if ((await canListen(port)) && (await canBind(port))) ports.push(port);
  }
  return ports;
}

async function canListen(port: number): Promise<boolean> {
  const server = createServer().listen(port, HOST);
  const isFree = await once(server, 'listening').then(() => true, () => false);
  if (isFree) await new Promise((closed) => server.close(closed));
  return isFree;
}

async function canBind(port: number): Promise<boolean> {
  const socket = createSocket('udp4');
  socket.bind(port, HOST);
  const isFree = await once(socket, 'listening').then(() => true, () => false);
  socket.close();
  return isFree;
}
