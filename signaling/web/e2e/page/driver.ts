// Runs in the page: the unmodified livekit-client behind calls whose arguments and answers are plain
// values. Judges nothing; it does what it is told and tells what it sees.

import {
  DataPacket_Kind,
  type DataPublishOptions,
  LocalAudioTrack,
  LocalVideoTrack,
  type RemoteTrack,
  type RemoteTrackPublication,
  Room,
  RoomEvent,
  type ScalabilityMode,
  type SimulationScenario,
  Track,
  type TrackPublication,
  VideoQuality,
  createLocalAudioTrack,
  createLocalScreenTracks,
  createLocalVideoTrack,
} from 'livekit-client';

import { type Arrivals, Watcher } from './arrivals';

export type Source = 'camera' | 'microphone' | 'screen_share';

export interface JoinRequest {
  url: string;
  token: string;
  /** One peer connection for both directions, or one for each. */
  single: boolean;
  /** Nothing but relay servers may carry it. */
  relayed?: boolean;
}

export interface JoinTimes {
  /** From opening the WebSocket until it is open, until its first message, until connected. */
  upgrade: number;
  joinResponse: number;
  connected: number;
}

export interface Seen {
  identity: string;
  name: string;
  metadata: string;
  attributes: Record<string, string>;
  tracks: { sid: string; source: Source; muted: boolean; subscribed: boolean }[];
}

export interface VideoStats {
  framesDecoded: number;
  keyFramesDecoded: number;
  frameWidth: number;
  frameHeight: number;
  freezeCount: number;
  totalFreezesDuration: number;
  bytesReceived: number;
  packetsLost: number;
  pliCount: number;
}

export interface Encoding {
  rid: string;
  mode: string;
  width: number;
  height: number;
  active: boolean;
  bytes: number;
}

export interface AudioStats {
  totalSamplesReceived: number;
  totalAudioEnergy: number;
  totalSamplesDuration: number;
  concealedSamples: number;
  bytesReceived: number;
  packetsReceived: number;
  packetsLost: number;
  nackCount: number;
}

export interface SentStats {
  packetsSent: number;
  retransmittedPacketsSent: number;
  nackCount: number;
}

/** The protocols of both ends of the selected pair of candidates, and how a relay server is spoken to. */
export interface Carrier {
  protocol: string;
  theirs: string;
  relay: string | undefined;
}

interface Candidate {
  id: string;
  protocol: string;
  relayProtocol?: string;
}

/** What came of asking relay servers for an address: whether there is one, and the errors of STUN. */
export interface Relays {
  relayed: boolean;
  errors: number[];
}

/** `at`: in milliseconds since 1970. */
export type Happening = What & { at: number };

type What =
  | { kind: 'came' | 'left'; identity: string }
  | { kind: 'state'; state: string }
  | { kind: 'resuming' | 'restarting' | 'reconnected' }
  // Messages of signaling, as they come; only while arrivals are watched.
  | { kind: 'welcomed' | 'sent away' }
  | { kind: 'disconnected'; reason: number | undefined }
  | { kind: 'muted' | 'unmuted' | 'unsubscribed'; identity: string; source: string }
  | { kind: 'stream'; identity: string; source: string; state: string }
  | { kind: 'data'; from: string; topic: string; text: string; length: number; sum: number; reliable: boolean }
  | { kind: 'text'; from: string; topic: string; text: string; length: number; sum: number }
  | { kind: 'metadata'; identity: string; metadata: string }
  | { kind: 'attributes'; identity: string; changed: Record<string, string> }
  | { kind: 'speakers'; identities: string[] };

const SOURCES: Record<Source, Track.Source> = {
  camera: Track.Source.Camera,
  microphone: Track.Source.Microphone,
  screen_share: Track.Source.ScreenShare,
};

/** A SignalResponse is one field, whose tag is its first byte: `join` is the first, `leave` the eighth. */
const MESSAGES = new Map<number, 'welcomed' | 'sent away'>([
  [0x0a, 'welcomed'],
  [0x42, 'sent away'],
]);

/** What the SDK has made. */
const connections: RTCPeerConnection[] = [];
const PlainConnection = window.RTCPeerConnection;
window.RTCPeerConnection = class extends PlainConnection {
  constructor(configuration?: RTCConfiguration) {
    super(configuration);
    connections.push(this);
    watcher?.watch(this);
  }
};

let room: Room | undefined;
const happenings: Happening[] = [];
let firstFrame: (from: string) => void = () => undefined;
const note = (what: What) => void happenings.push({ ...what, at: performance.timeOrigin + performance.now() });
let watcher: Watcher | undefined;

const driver = {
  /** From here on notes what arrives, and what signaling says of coming and going. Before joining. */
  watch(): void {
    watcher ??= new Watcher();
    window.WebSocket = class extends window.WebSocket {
      constructor(url: string | URL, protocols?: string | string[]) {
        super(url, protocols);
        this.addEventListener('message', ({ data }: MessageEvent<unknown>) => {
          const kind = data instanceof ArrayBuffer ? MESSAGES.get(new Uint8Array(data)[0] ?? 0) : undefined;
          if (kind) note({ kind });
        });
      }
    };
  },

  async arrivals(since: number): Promise<Arrivals[]> {
    return (await watcher?.read(since)) ?? [];
  },

  async join(request: JoinRequest): Promise<JoinTimes> {
    const current = new Room({
      singlePeerConnection: request.single,
      adaptiveStream: false,
      dynacast: true,
    });
    room = current;
    listen(current);
    const watch = watchSocket();
    const begin = performance.now();
    try {
      const rtcConfig: RTCConfiguration = request.relayed ? { iceTransportPolicy: 'relay' } : {};
      await current.connect(request.url, request.token, { rtcConfig });
    } finally {
      watch.stop();
    }
    const connected = performance.now() - begin;
    return { upgrade: watch.opened() - begin, joinResponse: watch.answered() - begin, connected };
  },

  /** As `join`, and until the first frame of somebody who is there already was decoded. */
  async joinAndSee(request: JoinRequest, identity: string): Promise<JoinTimes & { firstFrame: number }> {
    const begin = performance.now();
    const seen = new Promise<number>((resolve) => {
      firstFrame = (from) => {
        if (from === identity) resolve(performance.now() - begin);
      };
    });
    const times = await driver.join(request);
    return { ...times, firstFrame: await seen };
  },

  async leave(): Promise<void> {
    await room?.disconnect();
    room = undefined;
  },

  async publishCamera(width: number, height: number, frameRate: number, videoCodec: 'vp8' | 'h264' = 'vp8'): Promise<string> {
    const track = await createLocalVideoTrack({ resolution: { width, height, frameRate } });
    return publish(track, { simulcast: true, source: Track.Source.Camera, videoCodec });
  },

  /** As a camera, drawn: there is no device that would have to begin anew when the SDK publishes again. */
  async publishDrawing(width: number, height: number, frameRate: number): Promise<string> {
    const canvas = Object.assign(document.createElement('canvas'), { width, height });
    const context = canvas.getContext('2d');
    let turn = 0;
    setInterval(() => {
      turn += 1;
      if (context) context.fillStyle = `hsl(${turn * 7} 80% 50%)`;
      context?.fillRect((turn * 5) % width, (turn * 3) % height, width / 4, height / 4);
    }, 1000 / frameRate);
    const [track] = canvas.captureStream(frameRate).getVideoTracks();
    if (!track) throw new Error('no drawing');
    return publish(new LocalVideoTrack(track), { source: Track.Source.Camera, simulcast: false });
  },

  /** One stream with layers in it, e.g. of mode L3T3_KEY. */
  async publishScalable(width: number, height: number, frameRate: number, videoCodec: 'vp9' | 'av1', mode: ScalabilityMode): Promise<string> {
    const track = await createLocalVideoTrack({ resolution: { width, height, frameRate } });
    const videoEncoding = { maxBitrate: 900_000, maxFramerate: frameRate };
    return publish(track, { source: Track.Source.Camera, videoCodec, scalabilityMode: mode, backupCodec: false, videoEncoding });
  },

  async publishMicrophone(): Promise<string> {
    // The fake microphone beeps; whoever cleans that up hears a silence we must not take for a fault.
    const raw = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    const track = await createLocalAudioTrack(raw);
    return publish(track, { source: Track.Source.Microphone, dtx: false });
  },

  /** A steady tone, loud enough to be taken for speech. Needs a page that was clicked at. */
  async publishVoice(): Promise<string> {
    const audio = new AudioContext();
    await audio.resume();
    const tone = new OscillatorNode(audio, { frequency: 300 });
    const out = new MediaStreamAudioDestinationNode(audio);
    tone.connect(new GainNode(audio, { gain: 0.5 })).connect(out);
    tone.start();
    const [track] = out.stream.getAudioTracks();
    if (!track) throw new Error('no tone');
    return publish(new LocalAudioTrack(track), { source: Track.Source.Microphone, dtx: false });
  },

  async publishScreen(): Promise<string> {
    const tracks = await createLocalScreenTracks({ audio: false, resolution: { width: 1280, height: 720, frameRate: 5 } });
    const video = tracks.find((track) => track instanceof LocalVideoTrack);
    if (!video) throw new Error('no screen was captured');
    return publish(video, { source: Track.Source.ScreenShare, simulcast: false });
  },

  async unpublish(source: Source): Promise<void> {
    const track = local(source).track;
    if (track) await here().localParticipant.unpublishTrack(track);
  },

  async setMuted(source: Source, muted: boolean): Promise<void> {
    const track = local(source).track;
    if (!(track instanceof LocalAudioTrack) && !(track instanceof LocalVideoTrack)) throw new Error(`no ${source}`);
    await (muted ? track.mute() : track.unmute());
  },

  /** The sizes and rids this participant encodes, by getStats of the sender. */
  async encodings(source: Source): Promise<Encoding[]> {
    const report = await local(source).track?.getRTCStatsReport();
    return rows<RTCOutboundRtpStreamStats & { active?: boolean; scalabilityMode?: string }>(report, 'outbound-rtp').map((row) => ({
      rid: row.rid ?? '',
      mode: row.scalabilityMode ?? '',
      width: row.frameWidth ?? 0,
      height: row.frameHeight ?? 0,
      active: row.active ?? true,
      bytes: row.bytesSent ?? 0,
    }));
  },

  /** The participant here: who it is, and on which node. */
  self(): { sid: string; node: string } {
    const { sid, attributes } = here().localParticipant;
    return { sid, node: attributes['pipemesh.node'] ?? '' };
  },

  participants(): Seen[] {
    return [...here().remoteParticipants.values()].map((participant) => ({
      identity: participant.identity,
      name: participant.name ?? '',
      metadata: participant.metadata ?? '',
      attributes: participant.attributes,
      tracks: [...participant.trackPublications.values()].map((publication: TrackPublication) => ({
        sid: publication.trackSid,
        source: publication.source as Source,
        muted: publication.isMuted,
        subscribed: publication.isSubscribed && publication.track !== undefined,
      })),
    }));
  },

  async video(identity: string, source: Source = 'camera'): Promise<VideoStats | undefined> {
    const report = await remoteTrack(identity, source)?.getRTCStatsReport();
    const row = rows<RTCInboundRtpStreamStats>(report, 'inbound-rtp')[0];
    return row && {
      framesDecoded: row.framesDecoded ?? 0,
      keyFramesDecoded: row.keyFramesDecoded ?? 0,
      frameWidth: row.frameWidth ?? 0,
      frameHeight: row.frameHeight ?? 0,
      freezeCount: row.freezeCount ?? 0,
      totalFreezesDuration: row.totalFreezesDuration ?? 0,
      bytesReceived: row.bytesReceived ?? 0,
      packetsLost: row.packetsLost ?? 0,
      pliCount: row.pliCount ?? 0,
    };
  },

  async audio(identity: string): Promise<AudioStats | undefined> {
    const report = await remoteTrack(identity, 'microphone')?.getRTCStatsReport();
    const row = rows<RTCInboundRtpStreamStats>(report, 'inbound-rtp')[0];
    return row && {
      totalSamplesReceived: row.totalSamplesReceived ?? 0,
      totalAudioEnergy: row.totalAudioEnergy ?? 0,
      totalSamplesDuration: row.totalSamplesDuration ?? 0,
      concealedSamples: row.concealedSamples ?? 0,
      bytesReceived: row.bytesReceived ?? 0,
      packetsReceived: row.packetsReceived ?? 0,
      packetsLost: row.packetsLost ?? 0,
      nackCount: row.nackCount ?? 0,
    };
  },

  async sent(source: Source): Promise<SentStats | undefined> {
    const report = await local(source).track?.getRTCStatsReport();
    const row = rows<RTCOutboundRtpStreamStats>(report, 'outbound-rtp')[0];
    return row && {
      packetsSent: row.packetsSent ?? 0,
      retransmittedPacketsSent: row.retransmittedPacketsSent ?? 0,
      nackCount: row.nackCount ?? 0,
    };
  },

  /** What carries a track that is sent, or one that is received from somebody. */
  async carrier(source: Source, identity?: string): Promise<Carrier | undefined> {
    const track = identity === undefined ? local(source).track : remoteTrack(identity, source);
    const report = await track?.getRTCStatsReport();
    const transport = rows<RTCTransportStats>(report, 'transport')[0];
    const pairs = rows<RTCIceCandidatePairStats>(report, 'candidate-pair');
    const pair = pairs.find(({ id }) => id === transport?.selectedCandidatePairId);
    const ours = rows<Candidate>(report, 'local-candidate').find(({ id }) => id === pair?.localCandidateId);
    const theirs = rows<Candidate>(report, 'remote-candidate').find(({ id }) => id === pair?.remoteCandidateId);
    return ours && theirs && { protocol: ours.protocol, theirs: theirs.protocol, relay: ours.relayProtocol };
  },

  /** Of every peer connection, what `getStats` says of media and of the path. For a failure's report. */
  async reports(): Promise<object[][]> {
    const kept = ['inbound-rtp', 'outbound-rtp', 'remote-inbound-rtp', 'candidate-pair', 'transport'];
    return Promise.all(
      connections.map(async (connection) => {
        const report = (await connection.getStats()) as unknown as Map<string, { type: string }>;
        return [...report.values()].filter(({ type }) => kept.includes(type));
      }),
    );
  },

  /** What the peer connection was told to use. */
  iceServers(): RTCIceServer[] {
    return connections.at(-1)?.getConfiguration().iceServers ?? [];
  },

  /** Asks relay servers for an address, with these credentials, as one who joins does. */
  async askRelays(iceServers: RTCIceServer[]): Promise<Relays> {
    const connection = new PlainConnection({ iceServers, iceTransportPolicy: 'relay' });
    let relayed = false;
    // Once for each of the machine's interfaces.
    const errors = new Set<number>();
    connection.onicecandidateerror = ({ errorCode }) => errors.add(errorCode);
    const gathered = new Promise<void>((resolve) => {
      connection.onicecandidate = ({ candidate }) => {
        if (candidate) relayed ||= candidate.type === 'relay';
        else resolve();
      };
    });
    connection.createDataChannel('any');
    await connection.setLocalDescription();
    await gathered;
    connection.close();
    return { relayed, errors: [...errors] };
  },

  setQuality(identity: string, quality: 'low' | 'medium' | 'high'): void {
    const wish = { low: VideoQuality.LOW, medium: VideoQuality.MEDIUM, high: VideoQuality.HIGH }[quality];
    remote(identity, 'camera').setVideoQuality(wish);
  },

  setDimensions(identity: string, width: number, height: number): void {
    remote(identity, 'camera').setVideoDimensions({ width, height });
  },

  setSubscribed(identity: string, source: Source, subscribed: boolean): void {
    remote(identity, source).setSubscribed(subscribed);
  },

  /** `length` bytes in a pattern that a receiver's `sum` tells apart from any other length. */
  async sendData(length: number, options: DataPublishOptions): Promise<void> {
    const bytes = Uint8Array.from({ length }, (_, index) => (index * 31 + length) & 0xff);
    await here().localParticipant.publishData(bytes, options);
  },

  async sendWords(words: string, options: DataPublishOptions): Promise<void> {
    await here().localParticipant.publishData(new TextEncoder().encode(words), options);
  },

  async sendText(text: string, topic: string, to?: string[]): Promise<void> {
    await here().localParticipant.sendText(text, { topic, destinationIdentities: to });
  },

  receiveText(topic: string): void {
    here().registerTextStreamHandler(topic, (reader, { identity }) => {
      void reader.readAll().then((text) => {
        const sum = checksum(new TextEncoder().encode(text));
        note({ kind: 'text', from: identity, topic, text: text.slice(0, 64), length: text.length, sum });
      });
    });
  },

  async setMetadata(metadata: string): Promise<void> {
    await here().localParticipant.setMetadata(metadata);
  },

  async setAttributes(attributes: Record<string, string>): Promise<void> {
    await here().localParticipant.setAttributes(attributes);
  },

  async simulate(scenario: SimulationScenario): Promise<void> {
    await here().simulateScenario(scenario);
  },

  state(): string {
    return room?.state ?? 'none';
  },

  happenings(): Happening[] {
    return happenings;
  },
};

export type Driver = typeof driver;
declare global {
  interface Window {
    driver: Driver;
  }
}
window.driver = driver;

function here(): Room {
  if (!room) throw new Error('in no room');
  return room;
}

async function publish(track: LocalAudioTrack | LocalVideoTrack, options: object): Promise<string> {
  const publication = await here().localParticipant.publishTrack(track, options);
  return publication.trackSid;
}

function local(source: Source) {
  const publication = here().localParticipant.getTrackPublication(SOURCES[source]);
  if (!publication) throw new Error(`nothing published as ${source}`);
  return publication;
}

function remote(identity: string, source: Source): RemoteTrackPublication {
  const publication = here().remoteParticipants.get(identity)?.getTrackPublication(SOURCES[source]);
  if (!publication) throw new Error(`${identity} has no ${source}`);
  return publication;
}

function remoteTrack(identity: string, source: Source): RemoteTrack | undefined {
  return room?.remoteParticipants.get(identity)?.getTrackPublication(SOURCES[source])?.track;
}

function rows<T>(report: RTCStatsReport | undefined, type: string): T[] {
  const found: T[] = [];
  report?.forEach((row: { type: string }) => {
    if (row.type === type) found.push(row as T);
  });
  return found;
}

function checksum(bytes: Uint8Array): number {
  return bytes.reduce((sum, byte) => (sum * 31 + byte) >>> 0, 7);
}

function listen(room: Room): void {
  room
    .on(RoomEvent.ParticipantConnected, ({ identity }) => note({ kind: 'came', identity }))
    .on(RoomEvent.ParticipantDisconnected, ({ identity }) => note({ kind: 'left', identity }))
    .on(RoomEvent.ConnectionStateChanged, (state) => note({ kind: 'state', state }))
    .on(RoomEvent.SignalReconnecting, () => note({ kind: 'resuming' }))
    .on(RoomEvent.Reconnecting, () => note({ kind: 'restarting' }))
    .on(RoomEvent.Reconnected, () => note({ kind: 'reconnected' }))
    .on(RoomEvent.Disconnected, (reason) => note({ kind: 'disconnected', reason }))
    .on(RoomEvent.TrackMuted, ({ source }, { identity }) => note({ kind: 'muted', identity, source }))
    .on(RoomEvent.TrackUnmuted, ({ source }, { identity }) => note({ kind: 'unmuted', identity, source }))
    .on(RoomEvent.TrackStreamStateChanged, ({ source }, state, { identity }) => note({ kind: 'stream', identity, source, state }))
    .on(RoomEvent.TrackUnsubscribed, (track, _, { identity }) =>
      note({ kind: 'unsubscribed', identity, source: track.source }),
    )
    .on(RoomEvent.TrackSubscribed, (track, _, { identity }) => {
      // Decoding begins when somebody looks and listens.
      const element = track.attach();
      document.body.append(element);
      if (element instanceof HTMLVideoElement) element.requestVideoFrameCallback(() => firstFrame(identity));
    })
    .on(RoomEvent.DataReceived, (payload, from, kind, topic = '') => {
      const text = new TextDecoder().decode(payload.slice(0, 64));
      const [length, sum] = [payload.length, checksum(payload)];
      note({ kind: 'data', from: from?.identity ?? '', topic, text, length, sum, reliable: kind === DataPacket_Kind.RELIABLE });
    })
    .on(RoomEvent.ParticipantMetadataChanged, (_, { identity, metadata = '' }) =>
      note({ kind: 'metadata', identity, metadata }),
    )
    .on(RoomEvent.ParticipantAttributesChanged, (changed, { identity }) =>
      note({ kind: 'attributes', identity, changed }),
    )
    .on(RoomEvent.ActiveSpeakersChanged, (speakers) =>
      note({ kind: 'speakers', identities: speakers.map(({ identity }) => identity) }),
    );
}

/** Sees when the next WebSocket opens and when its first message arrives. */
function watchSocket() {
  const Plain = window.WebSocket;
  let opened = NaN;
  let answered = NaN;
  class Watched extends Plain {
    constructor(url: string | URL, protocols?: string | string[]) {
      super(url, protocols);
      this.addEventListener('open', () => (opened = performance.now()), { once: true });
      this.addEventListener('message', () => (answered = performance.now()), { once: true });
    }
  }
  window.WebSocket = Watched;
  return {
    opened: () => opened,
    answered: () => answered,
    stop: () => {
      window.WebSocket = Plain;
    },
  };
}
