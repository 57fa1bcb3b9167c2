// Notes when encoded media arrives, in a worker: a page that is busy delays nothing there.
//
// The worker stands where an application could decrypt (RTCRtpScriptTransform): behind depacketizing and
// before the jitter buffer, so it sees each packet of sound as it comes, with its sequence number, and each
// frame of video once it is whole. What does not arrive is a gap here, whatever is played instead.

/** What came on one SSRC of one peer connection. */
export interface Arrivals {
  kind: 'audio' | 'video';
  /** Counts peer connections of the page. */
  connection: number;
  /** Of the publisher. */
  participant: string;
  /** In milliseconds since 1970. */
  times: number[];
  /** Sequence numbers as they were sent, of 16 bits; video has none. */
  numbers: number[];
}

interface Frame {
  getMetadata(): { synchronizationSource?: number; sequenceNumber?: number };
}

interface Transformer {
  options: { receiver: number };
  readable: ReadableStream<Frame>;
  writable: WritableStream<Frame>;
}

/** What came for one receiver on one SSRC. */
type Received = { receiver: number } & Pick<Arrivals, 'times' | 'numbers'>;

interface Scope {
  onrtctransform: (event: { transformer: Transformer }) => void;
  onmessage: (event: MessageEvent<number>) => void;
}

type Receiver = Omit<Arrivals, 'times' | 'numbers'>;

export class Watcher {
  private readonly worker = new Worker(URL.createObjectURL(new Blob([`(${work.toString()})(self)`])));
  private readonly receivers: Receiver[] = [];
  private connections = 0;

  watch(connection: RTCPeerConnection): void {
    const number = this.connections;
    this.connections += 1;
    const known = new Map<RTCRtpReceiver, Receiver>();
    const attach = (receiver: RTCRtpReceiver): Receiver => {
      const former = known.get(receiver);
      if (former) return former;
      const kind = receiver.track.kind === 'audio' ? 'audio' : 'video';
      const made: Receiver = { kind, connection: number, participant: '' };
      known.set(receiver, made);
      const transform = new RTCRtpScriptTransform(this.worker, { receiver: this.receivers.push(made) - 1 });
      receiver.transform = transform;
      // The SDK takes away what it has no use for.
      Object.defineProperty(receiver, 'transform', { get: () => transform, set: () => undefined });
      return made;
    };
    // At once: Chromium lets media past a receiver that had no transform when it was made.
    const addTransceiver = connection.addTransceiver.bind(connection);
    connection.addTransceiver = (...what) => {
      const transceiver = addTransceiver(...what);
      attach(transceiver.receiver);
      return transceiver;
    };
    connection.addEventListener('track', ({ receiver, streams }) => {
      attach(receiver).participant = streams[0]?.id.split('|')[0] ?? '';
    });
  }

  /** What came since then, and before it the last of each. */
  async read(since: number): Promise<Arrivals[]> {
    const { port1, port2 } = new MessageChannel();
    const answer = new Promise<Received[]>((resolve) => {
      port1.onmessage = ({ data }: MessageEvent<Received[]>) => resolve(data);
    });
    this.worker.postMessage(since, [port2]);
    const received = await answer.finally(() => port1.close());
    return received.flatMap(({ receiver, times, numbers }) => {
      const of = this.receivers[receiver];
      return of ? [{ ...of, times, numbers }] : [];
    });
  }
}

/** Self-contained: only its text gets into the worker. */
function work(scope: Scope): void {
  const all = new Map<string, Received>();

  scope.onrtctransform = ({ transformer }) => {
    const { receiver } = transformer.options;
    const note = new TransformStream<Frame, Frame>({
      transform(frame, next) {
        const now = performance.timeOrigin + performance.now();
        const { synchronizationSource = 0, sequenceNumber } = frame.getMetadata();
        const key = `${receiver} ${synchronizationSource}`;
        const arrivals = all.get(key) ?? { receiver, times: [], numbers: [] };
        all.set(key, arrivals);
        arrivals.times.push(now);
        if (sequenceNumber !== undefined) arrivals.numbers.push(sequenceNumber);
        next.enqueue(frame);
      },
    });
    // A stream ends with its peer connection.
    transformer.readable.pipeThrough(note).pipeTo(transformer.writable).catch(() => undefined);
  };

  scope.onmessage = ({ data: since, ports }) => {
    const answer = [...all.values()].map((it) => {
      const later = it.times.findIndex((time) => time >= since);
      const first = Math.max(0, later === -1 ? it.times.length - 1 : later - 1);
      return { ...it, times: it.times.slice(first), numbers: it.numbers.slice(first) };
    });
    ports[0]?.postMessage(answer);
  };
}
