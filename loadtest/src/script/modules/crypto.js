// `k6/crypto`: digests and message authentication codes.

import { bytesOf } from 'pipemesh:bytes';

const host = globalThis.__host;

class Hasher {
  #parts = [];
  #finish;

  constructor(finish) {
    this.#finish = finish;
  }
  update(value) {
    this.#parts.push(bytesOf(typeof value === 'string' ? host.utf8(value) : value));
  }
  digest(encoding) {
    return encoded(this.#finish(this.#parts.flat()), encoding);
  }
}

function encoded(digest, encoding) {
  switch (encoding) {
    case 'hex': return hexEncode(digest);
    case 'base64': return host.base64Encode(bytesOf(digest), 'std');
    case 'base64url': return host.base64Encode(bytesOf(digest), 'url');
    case 'base64rawurl': return host.base64Encode(bytesOf(digest), 'rawurl');
    case 'binary': return digest;
    default: throw new TypeError(`digests are encoded as hex, base64, base64url, base64rawurl or binary, not ${encoding}`);
  }
}

export const createHash = (algorithm) => new Hasher((bytes) => host.digest(algorithm, bytes));

export function createHMAC(algorithm, secret) {
  const key = bytesOf(secret);
  return new Hasher((bytes) => host.hmac(algorithm, key, bytes));
}

export const hmac = (algorithm, secret, value, encoding) => encoded(host.hmac(algorithm, bytesOf(secret), bytesOf(value)), encoding);

const digest = (algorithm) => (value, encoding) => encoded(host.digest(algorithm, bytesOf(value)), encoding);

export const sha1 = digest('sha1');
export const sha256 = digest('sha256');
export const sha384 = digest('sha384');
export const sha512 = digest('sha512');
export const sha512_256 = digest('sha512_256');

export function hexEncode(value) {
  return Array.from(bytesOf(typeof value === 'string' ? host.utf8(value) : value), (byte) => byte.toString(16).padStart(2, '0')).join('');
}

export const randomBytes = (length) => host.randomBytes(length);

export default { createHash, createHMAC, hmac, sha1, sha256, sha384, sha512, sha512_256, hexEncode, randomBytes };
