// Bytes on their way to the host: a string stands for itself in UTF-8, all else is a list of numbers.

export function bytesOf(value) {
  if (typeof value === 'string') return value;
  if (value instanceof ArrayBuffer) return Array.from(new Uint8Array(value));
  if (ArrayBuffer.isView(value)) return Array.from(new Uint8Array(value.buffer, value.byteOffset, value.byteLength));
  throw new TypeError('strings and bytes are expected, in an ArrayBuffer or a typed array');
}
