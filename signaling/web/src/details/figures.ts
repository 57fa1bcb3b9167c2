// What a browser's statistics say of one track. Pure.

/** One of the objects of `getStats`; what is in it differs with its type. */
export type Stat = { id: string; type: string; timestamp: number } & Record<string, unknown>;

export interface Figures {
  codec: string | undefined;
  /** Of each encoding that is sent, or of what is received. */
  pictures: { rid: string; width: number; height: number; fps: number | undefined }[];
  bitsPerSecond: number | undefined;
  /** Share of the packets that were lost since the last look. */
  loss: number | undefined;
  roundTripMs: number | undefined;
  /** How long what has arrived waits before it is shown. */
  bufferMs: number | undefined;
  /** How packets travel: `UDP`, `TCP`, or through a relay. */
  transport: string | undefined;
  /** Why less is sent than could be. */
  limitedBy: string | undefined;
}

/** What happened between two looks. */
export function figures(before: readonly Stat[], after: readonly Stat[]): Figures {
  const former = new Map(before.map((stat) => [stat.id, stat]));
  const streams = after.filter(({ type }) => type === 'inbound-rtp' || type === 'outbound-rtp');
  const isSent = streams.some(({ type }) => type === 'outbound-rtp');
  const pair = selectedPair(after);
  const remote = after.filter(({ type }) => type === 'remote-inbound-rtp');
  const reported = remote.map((stat) => number(stat, 'roundTripTime')).find((it) => it !== undefined);
  const active = streams.filter((stat) => stat.active !== false);
  const byte = isSent ? 'bytesSent' : 'bytesReceived';
  return {
    codec: codec(streams, after),
    pictures: active.flatMap(picture),
    bitsPerSecond: sum(streams.map((stat) => perSecond(stat, former.get(stat.id), byte, 8))),
    loss: isSent ? largest(remote.map((stat) => number(stat, 'fractionLost'))) : lossOf(streams, former),
    roundTripMs: milliseconds(number(pair, 'currentRoundTripTime') ?? reported),
    bufferMs: isSent ? undefined : milliseconds(bufferOf(streams[0], former)),
    transport: transportOf(pair, after),
    limitedBy: streams.map((stat) => text(stat, 'qualityLimitationReason')).find((it) => it && it !== 'none'),
  };
}

function picture(stat: Stat): Figures['pictures'] {
  const [width, height] = [number(stat, 'frameWidth'), number(stat, 'frameHeight')];
  if (!width || !height) return [];
  return [{ rid: text(stat, 'rid') ?? '', width, height, fps: number(stat, 'framesPerSecond') }];
}

function codec(streams: readonly Stat[], all: readonly Stat[]): string | undefined {
  const ids = new Set(streams.map((stat) => stat.codecId));
  const found = all.find((stat) => stat.type === 'codec' && ids.has(stat.id));
  return text(found, 'mimeType')?.split('/').at(-1);
}

function perSecond(stat: Stat, before: Stat | undefined, key: string, factor: number): number | undefined {
  const grown = growth(stat, before, key);
  const seconds = before ? (stat.timestamp - before.timestamp) / 1000 : 0;
  return grown === undefined || seconds <= 0 ? undefined : (grown * factor) / seconds;
}

function lossOf(streams: readonly Stat[], former: ReadonlyMap<string, Stat>): number | undefined {
  const lost = sum(streams.map((stat) => growth(stat, former.get(stat.id), 'packetsLost')));
  const came = sum(streams.map((stat) => growth(stat, former.get(stat.id), 'packetsReceived')));
  if (lost === undefined || came === undefined || lost + came <= 0) return undefined;
  // What was believed to be lost may come after all.
  return Math.max(0, lost) / Math.max(1, lost + came);
}

function bufferOf(stat: Stat | undefined, former: ReadonlyMap<string, Stat>): number | undefined {
  if (!stat) return undefined;
  const delay = growth(stat, former.get(stat.id), 'jitterBufferDelay');
  const count = growth(stat, former.get(stat.id), 'jitterBufferEmittedCount');
  return delay === undefined || !count ? undefined : delay / count;
}

function selectedPair(all: readonly Stat[]): Stat | undefined {
  const chosen = all.find(({ type }) => type === 'transport')?.selectedCandidatePairId;
  const pairs = all.filter(({ type }) => type === 'candidate-pair');
  return pairs.find(({ id }) => id === chosen) ?? pairs.find((pair) => pair.nominated === true);
}

function transportOf(pair: Stat | undefined, all: readonly Stat[]): string | undefined {
  const own = all.find(({ id }) => id === pair?.localCandidateId);
  if (!own) return undefined;
  const relayed = own.candidateType === 'relay';
  const protocol = (relayed ? text(own, 'relayProtocol') : undefined) ?? text(own, 'protocol') ?? '';
  return `${protocol.toUpperCase()}${relayed ? ' through a relay' : ''}` || undefined;
}

function growth(stat: Stat, before: Stat | undefined, key: string): number | undefined {
  const [now, then] = [number(stat, key), number(before, key)];
  return now === undefined || then === undefined ? undefined : now - then;
}

function number(stat: Stat | undefined, key: string): number | undefined {
  const value = stat?.[key];
  return typeof value === 'number' ? value : undefined;
}

function text(stat: Stat | undefined, key: string): string | undefined {
  const value = stat?.[key];
  return typeof value === 'string' ? value : undefined;
}

function milliseconds(seconds: number | undefined): number | undefined {
  return seconds === undefined ? undefined : seconds * 1000;
}

function sum(values: (number | undefined)[]): number | undefined {
  const known = values.filter((value) => value !== undefined);
  return known.length === 0 ? undefined : known.reduce((total, value) => total + value, 0);
}

function largest(values: (number | undefined)[]): number | undefined {
  const known = values.filter((value) => value !== undefined);
  return known.length === 0 ? undefined : Math.max(...known);
}
