// `sfu`: participants of a LiveKit-compatible server. What media does, scripts never see packet by
// packet: they say what they want, and are told what became of it.

import { bytesOf } from 'pipemesh:bytes';
import { asked, called } from 'pipemesh:turn';

const host = globalThis.__host;

/** Milliseconds of `'1m30s'` or of a number. */
const duration = (value, otherwise) => (value === undefined || value === null ? otherwise : host.duration(value));

// --- Tokens ---

/** An access token, signed here: HS256, as every LiveKit server takes it. */
export class AccessToken {
  #key;
  #secret;
  #claims;
  #ttl;

  constructor(key, secret, { identity, name, metadata, attributes, ttl = '6h' } = {}) {
    if (!key || !secret) throw new TypeError('an access token needs an API key and its secret');
    this.#key = String(key);
    this.#secret = String(secret);
    this.#ttl = duration(ttl);
    this.#claims = { sub: identity, name, metadata, attributes, video: {} };
  }

  /** `publish`, `subscribe`, `data` and `admin` for short; else LiveKit's own names. */
  grant({ publish, subscribe, data, admin, ...others }) {
    const video = { roomJoin: true, ...others };
    if (publish !== undefined) video.canPublish = publish;
    if (subscribe !== undefined) video.canSubscribe = subscribe;
    if (data !== undefined) video.canPublishData = data;
    if (admin !== undefined) video.roomAdmin = admin;
    Object.assign(this.#claims.video, video);
    return this;
  }

  toJwt() {
    const now = Math.floor(Date.now() / 1000);
    return host.sign(this.#secret, JSON.stringify({ iss: this.#key, nbf: now - 5, exp: now + Math.ceil(this.#ttl / 1000), ...this.#claims }));
  }
}

// --- Media ---

const sized = ({ rid = '', width = 1280, height = 720, fps = 30, kbps = 1700 }) => ({ rid, width, height, fps, kbps });

const every = (gop) => (gop === undefined ? null : duration(gop));

/** What can be published. All but files is synthetic, and stamped so that receivers see what became of it. */
export const media = {
  /** Opus. `speech`: a share of the time from 0 to 1, or `'turns'`, which is a third of it. */
  audio({ codec = 'opus', kbps = 32, dtx = false, speech = 1 } = {}) {
    if (codec !== 'opus') throw new TypeError(`media.audio() has the codec opus, not ${codec}`);
    const share = speech === 'turns' ? 1 / 3 : Number(speech);
    if (!(share >= 0 && share <= 1)) throw new TypeError(`speech is a share from 0 to 1, or 'turns', not ${speech}`);
    return { kind: 'audio', kbps, dtx, speech: share };
  },
  /** One encoding of VP8. */
  video({ codec = 'vp8', gop, ...layer } = {}) {
    if (codec !== 'vp8') throw new TypeError(`media.video() has the codec vp8, not ${codec}; media.svc() has vp9 and av1`);
    return { kind: 'video', layers: [{ ...sized(layer), rid: '' }], gop: every(gop) };
  },
  /** Up to three encodings of VP8, from the lowest up. */
  simulcast({ codec = 'vp8', layers, gop } = {}) {
    if (codec !== 'vp8') throw new TypeError(`media.simulcast() has the codec vp8, not ${codec}; media.svc() has vp9 and av1`);
    const given = layers ?? [
      { rid: 'q', width: 320, height: 180, fps: 15, kbps: 150 },
      { rid: 'h', width: 640, height: 360, fps: 30, kbps: 500 },
      { rid: 'f', width: 1280, height: 720, fps: 30, kbps: 1700 },
    ];
    if (given.length < 2 || given.length > 3) throw new TypeError(`simulcast has two or three layers, not ${given.length}`);
    return { kind: 'video', layers: given.map(sized), gop: every(gop) };
  },
  /** One stream with layers in it: VP9 or AV1. */
  svc({ codec = 'vp9', layers } = {}) {
    if (codec !== 'vp9' && codec !== 'av1') throw new TypeError(`media.svc() has the codecs vp9 and av1, not ${codec}`);
    const given = layers ?? [
      { width: 320, height: 180, kbps: 150 },
      { width: 640, height: 360, kbps: 500 },
      { width: 1280, height: 720, kbps: 1700 },
    ];
    return { kind: 'svc', codec, layers: given.map(sized) };
  },
  /** Few large frames, as of a shared screen. */
  screen({ width = 1920, height = 1080, fps = 5, kbps = 1500, gop } = {}) {
    return { kind: 'video', source: 'screen', layers: [sized({ width, height, fps, kbps })], gop: every(gop) };
  },
  /** IVF with VP8, VP9 or AV1, H.264 with start codes (which has no times, so `fps` says), Ogg with Opus. */
  file(path, { loop = false, fps = 30 } = {}) {
    return { kind: 'file', loop: Boolean(loop), ...JSON.parse(host.mediaFile(String(path), Math.trunc(Number(fps)) || 0)) };
  },
};

// --- Networks ---

const PRESETS = {
  '3g': { up: { kbps: 500, delay: '100ms', jitter: '30ms', loss: 0.005 }, down: { kbps: 1600, delay: '100ms', jitter: '30ms', loss: 0.005 } },
  '4g': { up: { kbps: 8000, delay: '25ms', jitter: '8ms', loss: 0.001 }, down: { kbps: 20000, delay: '25ms', jitter: '8ms', loss: 0.001 } },
  '4g-lossy': { up: { kbps: 4000, delay: '40ms', jitter: '20ms', loss: 0.02, burst: 3 }, down: { kbps: 8000, delay: '40ms', jitter: '20ms', loss: 0.02, burst: 3 } },
  dsl: { up: { kbps: 1000, delay: '12ms', jitter: '2ms' }, down: { kbps: 8000, delay: '12ms', jitter: '2ms' } },
  'wifi-lossy': { up: { kbps: 20000, delay: '5ms', jitter: '25ms', loss: 0.03, burst: 4 }, down: { kbps: 20000, delay: '5ms', jitter: '25ms', loss: 0.03, burst: 4 } },
  satellite: { up: { kbps: 3000, delay: '280ms', jitter: '10ms', loss: 0.005 }, down: { kbps: 15000, delay: '280ms', jitter: '10ms', loss: 0.005 } },
};

const KEYS = ['kbps', 'delay', 'jitter', 'loss', 'burst', 'reorder', 'duplicate', 'queue'];

const direction = (where, given = {}) => {
  for (const key of Object.keys(given)) {
    if (!KEYS.includes(key)) throw new TypeError(`a network's ${where} knows ${KEYS.join(', ')}, not ${key}`);
  }
  for (const key of ['loss', 'reorder', 'duplicate']) {
    if (given[key] !== undefined && !(given[key] >= 0 && given[key] <= 1)) {
      throw new TypeError(`${where}.${key} is a share from 0 to 1, not ${given[key]}`);
    }
  }
  return {
    kbps: given.kbps ?? null,
    delay: duration(given.delay, 0),
    jitter: duration(given.jitter, 0),
    loss: given.loss ?? 0,
    burst: given.burst ?? 0,
    reorder: given.reorder ?? 0,
    duplicate: given.duplicate ?? 0,
    queue: duration(given.queue, 300),
  };
};

/** A network between a participant and its server, in user space: nothing of the machine changes. */
export const net = {
  none: () => null,
  /** A preset, or any name with both directions; what is given goes before the preset's. */
  profile(name, { up, down } = {}) {
    const preset = PRESETS[name];
    if (!preset && up === undefined && down === undefined) {
      throw new TypeError(`there is no network '${name}'; there are ${Object.keys(PRESETS).join(', ')}`);
    }
    return {
      name,
      up: direction('up', { ...preset?.up, ...up }),
      down: direction('down', { ...preset?.down, ...down }),
    };
  },
};

// --- Rooms ---

/** A track that is published here. */
class LocalTrack {
  #room;
  #layers;
  #isStopped = false;

  constructor(room, sid, name, kind, layers) {
    this.#room = room;
    this.#layers = layers;
    this.sid = sid;
    this.name = name;
    this.kind = kind;
  }
  #called(what) {
    called(what);
    if (this.#isStopped) throw new Error(`${what}: the track '${this.name}' was stopped`);
  }
  async mute() {
    this.#called('mute()');
    host.roomMute(this.#room, this.name, true);
  }
  async unmute() {
    this.#called('unmute()');
    host.roomMute(this.#room, this.name, false);
  }
  /** It is not published any more, and its name is free. */
  async stop() {
    called('stop()');
    if (this.#isStopped) return;
    this.#isStopped = true;
    host.roomUnpublish(this.#room, this.name);
  }
  /** Of several layers only these are sent from now on: q, h and f, or what they were called. */
  async setLayers(rids) {
    this.#called('setLayers()');
    if (!Array.isArray(rids)) throw new TypeError(`setLayers() takes an array of layers, not ${rids}`);
    if (this.#layers.length < 2) throw new TypeError(`the track '${this.name}' has no layers that are sent apart`);
    for (const rid of rids) {
      if (!this.#layers.includes(rid)) throw new TypeError(`the track '${this.name}' has the layers ${this.#layers.join(', ')}, not ${rid}`);
    }
    host.roomSendLayers(this.#room, this.name, rids);
  }
}

/** A track of somebody else's that was subscribed to. */
class RemoteTrack {
  #room;

  constructor(room, { sid, identity, name, kind, path }) {
    this.#room = room;
    this.sid = sid;
    this.from = identity;
    this.name = name;
    this.kind = kind;
    /** `same_node`, `cross_node` or `cross_region`; empty if the server does not say where who is. */
    this.path = path;
  }

  /**
   * `rid` (q, h, f), `height` in pixels, or `off`. With `wait`, answers once frames of it come, after
   * so many milliseconds; null if they did not in time.
   */
  async setLayer({ rid, height, off, wait } = {}) {
    called('setLayer()');
    const given = [rid !== undefined, height !== undefined, Boolean(off)].filter(Boolean).length;
    if (given !== 1) throw new TypeError('setLayer() takes one of rid, height and off');
    if (rid !== undefined && !['q', 'h', 'f'].includes(rid)) throw new TypeError(`layers are called q, h and f, not ${rid}`);
    const wish = JSON.stringify({ on: false, rid: rid ?? null, height: height ?? null, off: Boolean(off) });
    return (await asked('setLayer()', host.roomLayer(this.#room, this.sid, wish, duration(wait, 0)))) ?? null;
  }
  pause() {
    return this.setLayer({ off: true });
  }
  /** The best that there is. */
  async resume() {
    called('resume()');
    const wish = JSON.stringify({ on: true, rid: null, height: null, off: false });
    await asked('resume()', host.roomLayer(this.#room, this.sid, wish, 0));
  }
  /** Asks the publisher for a key frame, though nothing is missing. */
  async requestKeyFrame() {
    called('requestKeyFrame()');
    if (this.kind !== 'video') throw new TypeError('audio has no key frames');
    host.roomKeyFrame(this.#room, this.sid);
  }
  /** Waits for its first frame; false if it did not come in time. */
  async received({ timeout = '10s' } = {}) {
    called('received()');
    return asked('received()', host.roomReceived(this.#room, this.sid, duration(timeout)));
  }
  async unsubscribe() {
    called('unsubscribe()');
    await asked('unsubscribe()', host.roomUnsubscribe(this.#room, this.sid));
  }
}

const SIMULATED = [
  'resume', 'signal-drop', 'ice-restart', 'full-reconnect', 'media-drop',
  'leave-full-reconnect', 'node-failure', 'migration', 'server-leave',
];

class Room {
  #id;
  #listeners = [];

  constructor(id, joined) {
    this.#id = id;
    Object.assign(this, joined);
    this.network = {
      set: (profile) => host.roomNetwork(id, JSON.stringify(profile)),
      cut: (pause) => host.roomCut(id, duration(pause)),
    };
    this.#listen();
  }

  async #listen() {
    for (;;) {
      const events = await host.roomEvents(this.#id);
      if (typeof events !== 'string') return;
      for (const event of JSON.parse(events)) this.#tell(event);
    }
  }

  #tell({ type, topic, ...rest }) {
    if (type === 'reconnected') Object.assign(this, { node: rest.node, sid: rest.sid });
    const message = type === 'data' ? { topic, ...rest, payload: decoded(rest.payload) } : rest;
    for (const listener of this.#listeners) {
      if (listener.event !== type || (listener.topic !== null && listener.topic !== topic)) continue;
      try {
        const answer = listener.react(message);
        answer?.catch?.((error) => host.uncaught(`${error}\n${error?.stack ?? ''}`));
      } catch (error) {
        host.uncaught(`${error}\n${error?.stack ?? ''}`);
      }
    }
  }

  /**
   * `on('data', topic, fn)`, `on('data', fn)`; `on('reconnecting', fn)`, `on('reconnected', fn)` and, if it
   * does not come back, `on('disconnected', fn)`.
   */
  on(event, ...rest) {
    called('on()');
    const known = ['data', 'reconnecting', 'reconnected', 'disconnected'];
    if (!known.includes(event)) throw new TypeError(`rooms tell of ${known.join(', ')}, not of '${event}'`);
    const react = rest.pop();
    if (typeof react !== 'function') throw new TypeError(`on('${event}') needs a function`);
    this.#listeners.push({ event, topic: rest[0] ?? null, react });
  }

  async publish(what, { name, timeout = '10s' } = {}) {
    called('publish()');
    if (!what?.kind) throw new TypeError('publish() takes what media.audio(), media.simulcast() and the others answer');
    const kind = (what.of ?? what.kind) === 'audio' ? 'audio' : 'video';
    const title = name ?? (kind === 'audio' ? 'microphone' : 'camera');
    const sid = await asked('publish()', host.roomPublish(this.#id, title, JSON.stringify(what), duration(timeout)));
    const layers = what.kind === 'video' ? what.layers.map((layer) => layer.rid) : [];
    return new LocalTrack(this.#id, sid, title, kind, layers);
  }

  /**
   * To what is published and matches, in the order of publication. `wait`: for as many as `limit`
   * says, no longer than that.
   */
  async subscribe({ kinds = ['audio', 'video'], limit, from, names, wait } = {}) {
    called('subscribe()');
    const wanted = JSON.stringify({ kinds, limit: limit ?? null, from: from ?? null, names: names ?? null });
    const tracks = JSON.parse(await asked('subscribe()', host.roomSubscribeAll(this.#id, wanted, duration(wait, 0))));
    return tracks.map((track) => new RemoteTrack(this.#id, track));
  }

  async unsubscribe(tracks) {
    called('unsubscribe()');
    for (const track of [tracks].flat()) await asked('unsubscribe()', host.roomUnsubscribe(this.#id, track.sid));
  }

  /** `payload`: a string, bytes, or what can be JSON; or so many bytes with `size`. */
  async sendData({ topic = '', reliable = true, to = [], payload, size } = {}) {
    called('sendData()');
    const isBytes = payload instanceof ArrayBuffer || ArrayBuffer.isView(payload) || typeof payload === 'string';
    const text = size === undefined && !isBytes ? JSON.stringify(payload ?? null) : payload;
    const bytes = size === undefined ? bytesOf(text) : 'x'.repeat(size);
    host.roomSend(this.#id, JSON.stringify({ topic, reliable, to: [to].flat() }), bytes);
  }

  async #describe(what, wanted, timeout) {
    called(what);
    await asked(what, host.roomDescribe(this.#id, JSON.stringify(wanted), duration(timeout)));
  }
  /** These three wait until the server agrees, and throw if it does not. What is empty stays as it is. */
  setName(name, { timeout = '10s' } = {}) {
    return this.#describe('setName()', { name: String(name) }, timeout);
  }
  setMetadata(metadata, { timeout = '10s' } = {}) {
    const text = typeof metadata === 'string' ? metadata : JSON.stringify(metadata);
    return this.#describe('setMetadata()', { metadata: text ?? '' }, timeout);
  }
  /** Those that are not named stay; one without text goes. */
  setAttributes(attributes, { timeout = '10s' } = {}) {
    const pairs = Object.entries(attributes ?? {}).map(([name, value]) => [name, String(value ?? '')]);
    return this.#describe('setAttributes()', { attributes: Object.fromEntries(pairs) }, timeout);
  }

  /** Everybody else in the room. */
  async participants() {
    called('participants()');
    return JSON.parse(await asked('participants()', host.roomParticipants(this.#id)));
  }

  async stats() {
    called('stats()');
    return JSON.parse(await asked('stats()', host.roomStats(this.#id)));
  }

  /**
   * Until the participant is back. `signal-drop`, `full-reconnect` and `media-drop` it does by itself, the
   * others it asks the server for.
   */
  async simulate(what) {
    called('simulate()');
    if (!SIMULATED.includes(what)) throw new TypeError(`simulate() knows ${SIMULATED.join(', ')}, not '${what}'`);
    await asked('simulate()', host.roomSimulate(this.#id, what));
  }

  async leave() {
    called('leave()');
    await asked('leave()', host.roomLeave(this.#id));
  }
}

/** JSON if it is, else the text. */
function decoded(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

export class Client {
  #url;
  #options;

  constructor(url, options = {}) {
    if (typeof url !== 'string' || !/^(wss?|https?):\/\//.test(url)) {
      throw new TypeError(`a client needs the server's address, such as ws://127.0.0.1:7880, not '${url}'`);
    }
    const known = ['region', 'network', 'tags', 'dialect', 'receive', 'iceTcpOnly', 'headers'];
    for (const key of Object.keys(options)) {
      if (!known.includes(key)) throw new TypeError(`a client has the options ${known.join(', ')}, not ${key}`);
    }
    this.#url = url;
    this.#options = options;
  }

  /**
   * Where else there is signaling: `region`, `url`, and `rtt`, the milliseconds of a request there and
   * back, null if there was no answer. The best first, as the server says.
   */
  async regions({ token, timeout = '5s' } = {}) {
    called('regions()');
    const web = (url) => url.replace(/^ws/, 'http').replace(/\/+$/, '');
    const ask = async (url, name, headers) => {
      const params = JSON.stringify({ headers, timeout: duration(timeout) });
      return JSON.parse(await asked('regions()', host.httpAsync('GET', url, null, params, { name })));
    };
    const headers = { ...(this.#options.headers ?? {}), ...(token ? { Authorization: `Bearer ${token}` } : {}) };
    const { status, body, error } = await ask(`${web(this.#url)}/settings/regions`, 'GET /settings/regions', headers);
    if (status !== 200) throw new Error(`regions(): ${error || `status ${status}: ${body}`}`);
    return Promise.all(JSON.parse(body).regions.map(async ({ region, url }) => {
      let rtt = null;
      // The first opens a connection.
      for (let round = 0; round < 3; round++) {
        const { error_code, timings } = await ask(`${web(url)}/rtt`, 'GET /rtt', {}).catch(() => ({ error_code: 1 }));
        if (error_code !== 0) return { region, url, rtt: null };
        rtt = Math.min(rtt ?? Infinity, timings.duration);
      }
      return { region, url, rtt };
    }));
  }

  /** Ready when media flows. Throws with why if it does not. */
  async join(token, { timeout = '10s', autoSubscribe = false, dynacast = false, reconnect = true } = {}) {
    called('join()');
    const { region, network, tags, dialect = 'single', receive, iceTcpOnly, headers } = this.#options;
    if (!['single', 'dual'].includes(dialect)) throw new TypeError(`the dialect is single or dual, not ${dialect}`);
    if (receive !== undefined && !['full', 'sampled', 'drain'].includes(receive)) {
      throw new TypeError(`media is received full, sampled or drain, not ${receive}`);
    }
    const tries = reconnect === true ? null : Number(reconnect);
    if (tries !== null && !(Number.isInteger(tries) && tries >= 0)) {
      throw new TypeError(`reconnect is true, false or a number of attempts, not ${reconnect}`);
    }
    const joined = JSON.parse(await asked('join()', host.join(this.#url, token, JSON.stringify({
      region: region ?? null,
      network: network ?? null,
      tags: tags ?? {},
      dialect,
      receive: receive ?? null,
      tcp: Boolean(iceTcpOnly),
      headers: headers ?? {},
      timeout: duration(timeout),
      autoSubscribe,
      dynacast,
      reconnect: tries,
    }))));
    const { id, ...rest } = joined;
    return new Room(id, rest);
  }
}

/** Everything measured from now on bears `phase`: thresholds such as `{phase:outage}` see it. */
export function phase(name) {
  called('phase()');
  host.setTag('phase', name === null || name === undefined ? null : String(name));
}

// --- What is outside of rooms ---

async function administer(what, method, url, path, token) {
  called(what);
  if (!/^https?:\/\//.test(url)) throw new TypeError(`${what} needs the address of the admin API, such as http://127.0.0.1:7890, not '${url}'`);
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const params = JSON.stringify({ headers, timeout: '10s' });
  const tags = { name: `${method} ${path.replace(/[?].*/, '').replace(/(nodes)\/[^/]+/, '$1/{id}')}` };
  const asks = host.httpAsync(method, url.replace(/\/+$/, '') + path, null, params, tags);
  const { status, body, error } = JSON.parse(await asked(what, asks));
  if (status === 200) return JSON.parse(body);
  let reason = error || `status ${status}`;
  try {
    reason = JSON.parse(body).error ?? reason;
  } catch {
    // Whoever answered was not the admin API.
  }
  throw new Error(`${what}: ${reason}`);
}

/** The admin API of signaling. `url`: such as http://127.0.0.1:7890. */
export const admin = {
  /** All nodes: `id`, `region`, `registered`, `reach`, `report` and so on. */
  async nodes(url, { token } = {}) {
    return (await administer('admin.nodes()', 'GET', url, '/nodes', token)).nodes;
  },
  /** All rooms: `name`, `id`, `homes`, `participants`. */
  async rooms(url, { token } = {}) {
    const rooms = [];
    for (let next = null; ;) {
      const from = next === null ? '' : `?from=${encodeURIComponent(next)}`;
      const page = await administer('admin.rooms()', 'GET', url, `/rooms${from}`, token);
      rooms.push(...page.rooms);
      if (page.next === null || page.next === undefined) return rooms;
      next = page.next;
    }
  },
  /** The node takes nobody new, and who is there moves: `id`, `state`. */
  async drain(url, node, { token } = {}) {
    return administer('admin.drain()', 'POST', url, `/nodes/${encodeURIComponent(node)}/drain`, token);
  },
  async undrain(url, node, { token } = {}) {
    return administer('admin.undrain()', 'POST', url, `/nodes/${encodeURIComponent(node)}/undrain`, token);
  },
};

export const chaos = {
  /** Runs a program, without a shell, if `--allow-exec` is given: `code`, `stdout`, `stderr`. */
  async exec(program, args = [], { timeout = '60s' } = {}) {
    called('chaos.exec()');
    return JSON.parse(await asked('chaos.exec()', host.exec(String(program), args.map(String), duration(timeout))));
  },
};

export default { Client, AccessToken, media, net, admin, chaos, phase };
