import { expect, test } from 'vitest';

import { type Stat, figures } from './figures';

const inbound = (timestamp: number, more: object): Stat => ({ id: 'in', type: 'inbound-rtp', timestamp, codecId: 'c', ...more });
const codec: Stat = { id: 'c', type: 'codec', timestamp: 0, mimeType: 'video/VP8' };
const line: Stat[] = [
  { id: 't', type: 'transport', timestamp: 0, selectedCandidatePairId: 'p2' },
  { id: 'p1', type: 'candidate-pair', timestamp: 0, nominated: true, currentRoundTripTime: 9 },
  { id: 'p2', type: 'candidate-pair', timestamp: 0, currentRoundTripTime: 0.05, localCandidateId: 'l' },
  { id: 'l', type: 'local-candidate', timestamp: 0, protocol: 'udp', candidateType: 'host' },
];

test('what is received, between two looks', () => {
  const before = inbound(1000, { bytesReceived: 1000, packetsReceived: 100, packetsLost: 2, jitterBufferDelay: 1, jitterBufferEmittedCount: 10 });
  const after = inbound(3000, {
    ...{ bytesReceived: 251_000, packetsReceived: 195, packetsLost: 7, jitterBufferDelay: 3, jitterBufferEmittedCount: 60 },
    ...{ frameWidth: 640, frameHeight: 360, framesPerSecond: 25 },
  });
  const it = figures([before], [after, codec, ...line]);
  expect(it).toMatchObject({ codec: 'VP8', bitsPerSecond: 1_000_000, loss: 0.05, roundTripMs: 50, bufferMs: 40, transport: 'UDP' });
  expect(it.pictures).toEqual([{ rid: '', width: 640, height: 360, fps: 25 }]);
});

test('the first look knows no rates', () => {
  const it = figures([], [inbound(1000, { bytesReceived: 1000, packetsReceived: 100, packetsLost: 2 })]);
  expect([it.bitsPerSecond, it.loss, it.codec, it.roundTripMs]).toEqual([undefined, undefined, undefined, undefined]);
});

test('packets that come after all are no negative loss', () => {
  const at = (timestamp: number, packetsReceived: number, packetsLost: number) => inbound(timestamp, { packetsReceived, packetsLost });
  expect(figures([at(0, 100, 5)], [at(1000, 110, 2)]).loss).toBe(0);
});

test('what is sent is the sum of its layers', () => {
  const layer = (rid: string, timestamp: number, bytesSent: number, active = true): Stat => ({
    ...{ id: rid, type: 'outbound-rtp', timestamp, rid, bytesSent, active, codecId: 'c' },
    ...{ frameWidth: 320, frameHeight: 180, qualityLimitationReason: rid === 'q' ? 'none' : 'bandwidth' },
  });
  const remote: Stat = { id: 'r', type: 'remote-inbound-rtp', timestamp: 0, fractionLost: 0.1, roundTripTime: 0.02 };
  const it = figures([layer('q', 0, 0), layer('h', 0, 0)], [layer('q', 1000, 1000), layer('h', 1000, 3000), layer('f', 1000, 0, false), codec, remote]);
  expect(it).toMatchObject({ bitsPerSecond: 32_000, loss: 0.1, roundTripMs: 20, limitedBy: 'bandwidth', bufferMs: undefined });
  expect(it.pictures.map(({ rid }) => rid)).toEqual(['q', 'h']);
});

test('a relay is said to be one', () => {
  const relay: Stat[] = [
    { id: 'p', type: 'candidate-pair', timestamp: 0, nominated: true, localCandidateId: 'l' },
    { id: 'l', type: 'local-candidate', timestamp: 0, protocol: 'udp', relayProtocol: 'tls', candidateType: 'relay' },
  ];
  expect(figures([], relay).transport).toBe('TLS through a relay');
});
