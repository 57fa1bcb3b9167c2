// RTP packets that are sent again as they were, as audio is: under one number of one stream there may be one
// datagram only, since AES-GCM forgives no second one (RFC 7714, section 8.4).
// Numbers are those of 16 bits: of no use for longer than they last.

export class Repeats {
  private readonly known = new Map<string, Buffer>();
  /** Those that were the same as before, and those that were not. */
  readonly counts = { same: 0, altered: 0 };

  /** `flow` tells one connection from another. */
  note(flow: string, datagram: Buffer): void {
    if (!isRtp(datagram)) return;
    const key = `${flow} ${datagram.readUInt32BE(8)} ${datagram.readUInt16BE(2)}`;
    const before = this.known.get(key);
    if (before) this.counts[before.equals(datagram) ? 'same' : 'altered'] += 1;
    else this.known.set(key, datagram);
  }
}

/** RTCP's packet types lie where RTP has payload types that nobody uses (RFC 5761, section 4). */
function isRtp(datagram: Buffer): boolean {
  const [first = 0, second = 0] = datagram;
  const isRtcp = second >= 192 && second <= 223;
  return first >= 128 && first <= 191 && !isRtcp && datagram.length >= 12;
}
