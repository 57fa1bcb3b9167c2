// What scripts of pipemesh-loadtest find in the module `sfu`, for editors.

declare module 'sfu' {
  /** Milliseconds, or text such as `1m30s`. */
  export type Duration = number | string;

  /** An access token, signed here. */
  export class AccessToken {
    constructor(key: string, secret: string, options?: {
      identity?: string;
      name?: string;
      metadata?: string;
      attributes?: Record<string, string>;
      /** 6h if not given. */
      ttl?: Duration;
    });
    /** `publish`, `subscribe`, `data` and `admin` for short; else LiveKit's own names. */
    grant(grants: { room?: string; publish?: boolean; subscribe?: boolean; data?: boolean; admin?: boolean; [name: string]: unknown }): this;
    toJwt(): string;
  }

  export interface Layer {
    rid?: string;
    width?: number;
    height?: number;
    fps?: number;
    kbps?: number;
  }
  /** What `media` answers, for `publish`. */
  export interface Media {
    readonly kind: string;
  }
  /** What `media.file` answers. */
  export interface Recording extends Media {
    readonly of: 'audio' | 'video';
    readonly codec: 'opus' | 'vp8' | 'vp9' | 'h264' | 'av1';
    readonly loop: boolean;
    /** Milliseconds. */
    readonly duration: number;
    readonly frames: number;
    /** Pixels; 0 for audio, and where the file does not say. */
    readonly width: number;
    readonly height: number;
  }
  export const media: {
    /** Opus. `speech`: a share of the time from 0 to 1, or `'turns'`, which is a third of it. */
    audio(options?: { codec?: 'opus'; kbps?: number; dtx?: boolean; speech?: number | 'turns' }): Media;
    /** One encoding of VP8. */
    video(options?: Layer & { codec?: 'vp8'; gop?: Duration }): Media;
    /** Two or three encodings of VP8, from the lowest up. */
    simulcast(options?: { codec?: 'vp8'; layers?: Layer[]; gop?: Duration }): Media;
    /** One stream with layers in it. */
    svc(options?: { codec?: 'vp9' | 'av1'; layers?: Layer[] }): Media;
    screen(options?: { width?: number; height?: number; fps?: number; kbps?: number; gop?: Duration }): Media;
    /**
     * IVF with VP8, VP9 or AV1, H.264 with start codes, Ogg with Opus; at the top of a script only. `fps`: of H.264, 30
     * if not given. Without `loop` the track falls silent at the end. Latency of files is not measured.
     */
    file(path: string, options?: { loop?: boolean; fps?: number }): Recording;
  };

  export interface Direction {
    kbps?: number;
    delay?: Duration;
    jitter?: Duration;
    /** Shares from 0 to 1. */
    loss?: number;
    reorder?: number;
    duplicate?: number;
    /** How many packets are lost in a row, on average. */
    burst?: number;
    queue?: Duration;
  }
  export interface Network {
    readonly name: string;
  }
  /** A network between a participant and its server, in user space. */
  export const net: {
    none(): null;
    profile(name: '3g' | '4g' | '4g-lossy' | 'dsl' | 'wifi-lossy' | 'satellite', changes?: { up?: Direction; down?: Direction }): Network;
    profile(name: string, directions: { up?: Direction; down?: Direction }): Network;
  };

  export interface LocalTrack {
    readonly sid: string;
    readonly name: string;
    readonly kind: 'audio' | 'video';
    mute(): Promise<void>;
    unmute(): Promise<void>;
    /** It is not published any more, and its name is free. */
    stop(): Promise<void>;
    /** Of several layers only these are sent from now on. */
    setLayers(rids: string[]): Promise<void>;
  }
  export interface RemoteTrack {
    readonly sid: string;
    /** Who publishes it. */
    readonly from: string;
    readonly name: string;
    readonly kind: 'audio' | 'video';
    /** Empty if the server does not say where who is. */
    readonly path: '' | 'same_node' | 'cross_node' | 'cross_region';
    /** One of `rid`, `height` in pixels and `off`. With `wait`: the milliseconds until frames of it came, null if they did not in time. */
    setLayer(wish: { rid?: 'q' | 'h' | 'f'; height?: number; off?: boolean; wait?: Duration }): Promise<number | null>;
    pause(): Promise<number | null>;
    resume(): Promise<void>;
    /** Asks the publisher for a key frame, though nothing is missing. */
    requestKeyFrame(): Promise<void>;
    /** Waits for its first frame, 10s if not given; false if it did not come. */
    received(options?: { timeout?: Duration }): Promise<boolean>;
    unsubscribe(): Promise<void>;
  }

  export interface Participant {
    identity: string;
    sid: string;
    node: string;
    region: string;
    name: string;
    metadata: string;
    attributes: Record<string, string>;
  }
  export interface Inbound {
    tracks: number;
    packets: number;
    bytes: number;
    lost: number;
    /** That could be shown. */
    frames: number;
    /** Of a track, on average since its first frame. */
    fps: number;
  }
  export interface Stats {
    /** It is there: not while it tries to come back, nor when it does not. */
    connected: boolean;
    inbound: { audio: Inbound; video: Inbound };
    outbound: { packets: number; bytes: number; frames: number };
    tracks: { wanted: number; received: number; missing: number };
    /** How often it has come back. */
    reconnects: number;
    /** Milliseconds. */
    rtt: number | null;
    integrityErrors: number;
    data: { sent: number; received: number };
  }
  export interface Message {
    topic: string;
    from: string;
    /** What JSON says, or text. */
    payload: any;
    /** Milliseconds. */
    latency: number | null;
  }

  export interface Node {
    readonly id: string;
    readonly region: string;
  }
  export interface Reconnected {
    node: Node;
    sid: string;
    kind: 'resume' | 'rejoin' | 'migrate';
    /** What was lost: `signal`, `media`, or what the server said, such as `migration`. */
    reason: string;
    /** Milliseconds since then. */
    duration: number;
    attempts: number;
  }

  export interface Room {
    readonly sid: string;
    readonly identity: string;
    /** Where it is, also after it was moved. */
    readonly node: Node;
    readonly network: { set(profile: Network | null): void; cut(pause: Duration): void };
    on(event: 'data', react: (message: Message) => unknown): void;
    on(event: 'data', topic: string, react: (message: Message) => unknown): void;
    on(event: 'reconnecting', react: (event: { reason: string }) => unknown): void;
    on(event: 'reconnected', react: (event: Reconnected) => unknown): void;
    /** It does not come back, or not any more. */
    on(event: 'disconnected', react: (event: { reason: string }) => unknown): void;
    publish(what: Media, options?: { name?: string; timeout?: Duration }): Promise<LocalTrack>;
    /** To what is published and matches. `wait`: for as many as `limit` says, no longer than that. */
    subscribe(options?: { kinds?: ('audio' | 'video')[]; limit?: number; from?: string | string[]; names?: string | string[]; wait?: Duration }): Promise<RemoteTrack[]>;
    unsubscribe(tracks: RemoteTrack | RemoteTrack[]): Promise<void>;
    /** `payload`: text, bytes, or what can be JSON; or so many bytes with `size`. `to`: identities, everybody if there are none. */
    sendData(options?: { topic?: string; reliable?: boolean; to?: string | string[]; payload?: unknown; size?: number }): Promise<void>;
    /** These three wait until the server agrees, and throw if it does not. What is empty stays as it is. */
    setName(name: string, options?: { timeout?: Duration }): Promise<void>;
    /** What is no text becomes JSON. */
    setMetadata(metadata: unknown, options?: { timeout?: Duration }): Promise<void>;
    /** Those that are not named stay; one without text goes. */
    setAttributes(attributes: Record<string, string | number | boolean | null>, options?: { timeout?: Duration }): Promise<void>;
    /** Everybody else in the room. */
    participants(): Promise<Participant[]>;
    stats(): Promise<Stats>;
    /**
     * Until the participant is back; throws if it does not come back, or if the server simulates no such thing.
     * `resume`, `signal-drop`, `ice-restart`: over a new signaling connection. `full-reconnect`: joins anew.
     * `media-drop`: nothing passes for 3 s, which is not waited for. The server tells it to join anew
     * (`leave-full-reconnect`), forgets it without a word (`node-failure`, `migration`), or ends its session
     * (`server-leave`).
     */
    simulate(what: 'resume' | 'signal-drop' | 'ice-restart' | 'full-reconnect' | 'media-drop'
      | 'leave-full-reconnect' | 'node-failure' | 'migration' | 'server-leave'): Promise<void>;
    leave(): Promise<void>;
  }

  export class Client {
    constructor(url: string, options?: {
      region?: string;
      network?: Network | null;
      tags?: Record<string, string | number | boolean>;
      /** One peer connection or two; single if not given. */
      dialect?: 'single' | 'dual';
      receive?: 'full' | 'sampled' | 'drain';
      iceTcpOnly?: boolean;
      headers?: Record<string, string>;
    });
    /** Where else there is signaling, the best first. `rtt`: milliseconds, null if there was no answer. */
    regions(options?: { token?: string; timeout?: Duration }): Promise<{ region: string; url: string; rtt: number | null }[]>;
    /** Ready when media flows. Throws with why if it does not. */
    join(token: string, options?: {
      timeout?: Duration;
      autoSubscribe?: boolean;
      dynacast?: boolean;
      /** How often in a row it tries to come back when its connection is lost: 10 times if not given, never with false. */
      reconnect?: boolean | number;
    }): Promise<Room>;
  }

  /** The admin API of signaling. `url`: such as http://127.0.0.1:7890. */
  export const admin: {
    nodes(url: string, options?: { token?: string }): Promise<any[]>;
    rooms(url: string, options?: { token?: string }): Promise<any[]>;
    drain(url: string, node: string, options?: { token?: string }): Promise<{ id: string; state: string }>;
    undrain(url: string, node: string, options?: { token?: string }): Promise<{ id: string; state: string }>;
  };

  export const chaos: {
    /** Runs a program, without a shell, if `--allow-exec` is given. `code` is null if a signal ended it. */
    exec(program: string, args?: string[], options?: { timeout?: Duration }): Promise<{ code: number | null; stdout: string; stderr: string }>;
  };

  /** Everything measured from now on bears `phase`; null ends it. */
  export function phase(name: string | null): void;

  const sfu: {
    Client: typeof Client; AccessToken: typeof AccessToken; media: typeof media; net: typeof net;
    admin: typeof admin; chaos: typeof chaos; phase: typeof phase;
  };
  export default sfu;
}
