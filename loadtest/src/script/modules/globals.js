// What k6 scripts expect to find without an import.

import { bytesOf } from 'pipemesh:bytes';

const host = globalThis.__host;

const shown = (value) => {
  if (typeof value === 'string') return value;
  if (value instanceof Error) return value.stack ? `${value}\n${value.stack}` : String(value);
  if (typeof value === 'object' && value !== null) {
    try {
      return JSON.stringify(value);
    } catch {
      return String(value);
    }
  }
  return String(value);
};

const logger = (level) => (...values) => host.log(level, values.map(shown).join(' '));

globalThis.console = {
  debug: logger('debug'),
  log: logger('info'),
  info: logger('info'),
  warn: logger('warning'),
  error: logger('error'),
};

const timer = (repeats) => (callback, milliseconds = 0, ...values) => {
  if (typeof callback !== 'function') throw new TypeError('a timer needs a function to call');
  const id = host.startTimer();
  const wait = () =>
    host.timer(id, Number(milliseconds) || 0).then((fired) => {
      if (!fired) return;
      if (!repeats) host.stopTimer(id);
      // What it throws ends the iteration, as a rejection that nobody handles.
      callback(...values);
      if (repeats) wait();
    });
  wait();
  return id;
};

globalThis.setTimeout = timer(false);
globalThis.setInterval = timer(true);
globalThis.clearTimeout = (id) => host.stopTimer(Number(id) || 0);
globalThis.clearInterval = globalThis.clearTimeout;

globalThis.open = (path, mode = '') => host.open(String(path), mode === 'b');

globalThis.TextEncoder = class TextEncoder {
  encoding = 'utf-8';
  encode(text = '') {
    return new Uint8Array(host.utf8(String(text)));
  }
};

globalThis.TextDecoder = class TextDecoder {
  encoding = 'utf-8';
  decode(bytes = new Uint8Array()) {
    return host.text(bytesOf(bytes));
  }
};

globalThis.structuredClone ??= (value) => JSON.parse(JSON.stringify(value));

globalThis.crypto = {
  getRandomValues(array) {
    new Uint8Array(array.buffer, array.byteOffset, array.byteLength).set(new Uint8Array(host.randomBytes(array.byteLength)));
    return array;
  },
  randomUUID() {
    const bytes = new Uint8Array(host.randomBytes(16));
    // RFC 9562 section 5.4.
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
    return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-');
  },
};
