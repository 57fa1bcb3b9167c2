// A UDP proxy between the browsers and the nodes, in user space: it loses what it is told to lose, is as
// narrow as it is told to be, and changes the path like a NAT that forgot its binding.
//
// Listens on one loopback address, on the same ports as the nodes on another, with one upstream
// socket per client address.

import { type RemoteInfo, type Socket, createSocket } from 'node:dgram';
import { once } from 'node:events';

import { Repeats } from './repeats';

/** Shares of datagrams that are lost, in both directions. */
export interface Loss {
  dtls?: number;
  /** RTP and RTCP. */
  media?: number;
  seed: number;
}

/** What a narrow line lets through at once: that of 200 ms. */
const BURST_SECONDS = 0.2;

interface Flow {
  upstream: Socket;
  client: RemoteInfo;
  /** Of a narrow line: bits that may pass, as of `at` by the monotonic clock, in milliseconds. */
  allowance: number;
  at: number;
}

export class UdpProxy {
  private readonly listeners: Socket[] = [];
  private readonly flows = new Map<string, Flow>();
  private readonly random: () => number;
  readonly counts = { passed: 0, lost: 0 };
  /** Of what was sent, lost or not, from clients and to them; since somebody wanted to know. */
  private narrowTo: number | undefined;
  private repeats: { up: Repeats; down: Repeats } | undefined;

  private constructor(
    private readonly target: string,
    private readonly loss: Loss,
  ) {
    this.random = mulberry32(loss.seed);
  }

  static async start(listen: string, target: string, ports: number[], loss: Loss = { seed: 0 }): Promise<UdpProxy> {
    const proxy = new UdpProxy(target, loss);
    for (const port of ports) {
      const listener = createSocket('udp4');
      listener.on('message', (datagram, client) => proxy.fromClient(datagram, client, listener, port));
      listener.bind(port, listen);
      await once(listener, 'listening');
      proxy.listeners.push(listener);
    }
    return proxy;
  }

  /** From now on compares what is sent again with what it was. Keeps all of it: for a minute, not for an hour. */
  compareRepeats(): { up: Repeats; down: Repeats } {
    this.repeats = { up: new Repeats(), down: new Repeats() };
    return this.repeats;
  }

  /** From now on no more reaches a client, in bits per second; as much as comes if it is not said. */
  narrow(bitsPerSecond?: number): void {
    this.narrowTo = bitsPerSecond;
  }

  /** From now on every client comes from a new port, as seen by the nodes. The old ports are gone. */
  rebind(): number {
    const moved = this.flows.size;
    for (const flow of this.flows.values()) flow.upstream.close();
    this.flows.clear();
    return moved;
  }

  stop(): void {
    this.rebind();
    for (const listener of this.listeners) listener.close();
  }

  private fromClient(datagram: Buffer, client: RemoteInfo, listener: Socket, port: number): void {
    const key = `${client.address}:${client.port}>${port}`;
    this.repeats?.up.note(key, datagram);
    if (this.loses(datagram)) return;
    let flow = this.flows.get(key);
    if (!flow) {
      const opened: Flow = { upstream: createSocket('udp4'), client, allowance: 0, at: performance.now() };
      opened.upstream.on('message', (answer) => {
        this.repeats?.down.note(key, answer);
        if (!this.loses(answer) && this.hasRoom(opened, answer)) listener.send(answer, client.port, client.address);
      });
      this.flows.set(key, opened);
      flow = opened;
    }
    flow.upstream.send(datagram, port, this.target);
  }

  private hasRoom(flow: Flow, { length }: Buffer): boolean {
    if (this.narrowTo === undefined) return true;
    const now = performance.now();
    const grown = flow.allowance + (this.narrowTo * (now - flow.at)) / 1000;
    flow.at = now;
    flow.allowance = Math.min(grown, this.narrowTo * BURST_SECONDS);
    const fits = length * 8 <= flow.allowance;
    if (fits) flow.allowance -= length * 8;
    return fits;
  }

  private loses(datagram: Buffer): boolean {
    const first = datagram[0] ?? 0;
    const isDtls = first >= 20 && first <= 63;
    const isMedia = first >= 128 && first <= 191;
    const share = (isDtls && this.loss.dtls) || (isMedia && this.loss.media) || 0;
    const lost = share > 0 && this.random() < share;
    this.counts[lost ? 'lost' : 'passed'] += 1;
    return lost;
  }
}

/** A small generator with a seed, so that a run can be repeated. */
export function mulberry32(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 0x1_0000_0000;
  };
}

export function newSeed(): number {
  const given = process.env.SEED;
  return given ? Number(given) : Math.floor(Math.random() * 0x1_0000_0000);
}
