// `k6/encoding`: base64.

import { bytesOf } from 'pipemesh:bytes';

const host = globalThis.__host;

/** `std`, `rawstd` (without padding), `url`, `rawurl`. */
export function b64encode(value, encoding = 'std') {
  return host.base64Encode(bytesOf(value), encoding);
}

/** Bytes; a string with the format `s`. */
export function b64decode(text, encoding = 'std', format = '') {
  const bytes = host.base64Decode(String(text), encoding);
  return format === 's' ? host.text(bytesOf(bytes)) : bytes;
}

export default { b64encode, b64decode };
