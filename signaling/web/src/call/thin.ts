// When a line is too thin for pictures: they are left out, and tried again after a while. Pure.

/** This long a line has to be poor before pictures go: they come and go for a moment on every line. */
const POOR_MS = 8_000;

/** Once the line was good for this long without a break, pictures are tried again; each time after twice as long. */
const FIRST_WAIT_MS = 30_000;
const LONGEST_WAIT_MS = 8 * 60_000;

/** Pictures that stayed this long show that the line has become better. */
const RECOVERED_MS = 2 * 60_000;

export type Line = 'good' | 'poor';

export interface Thin {
  /** Without pictures, by itself or because the person wants it so. */
  audioOnly: false | 'line' | 'person';
  /** Since when the line is as it is, and when that of pictures changed last. */
  line: Line;
  lineSince: number;
  since: number;
  waitMs: number;
  /** How often the line has taken pictures away. */
  falls: number;
}

export function begin(now: number): Thin {
  return { audioOnly: false, line: 'good', lineSince: now, since: now, waitMs: FIRST_WAIT_MS, falls: 0 };
}

/** What becomes of it with what is known of the line now. */
export function observe(thin: Thin, line: Line, now: number): Thin {
  const known = line === thin.line ? thin : { ...thin, line, lineSince: now };
  const asLongAs = now - known.lineSince;
  if (known.audioOnly === false) {
    if (line === 'poor' && asLongAs >= POOR_MS) {
      return { ...known, audioOnly: 'line', since: now, falls: known.falls + 1 };
    }
    const recovered = line === 'good' && now - known.since >= RECOVERED_MS && known.waitMs > FIRST_WAIT_MS;
    return recovered ? { ...known, waitMs: FIRST_WAIT_MS } : known;
  }
  const waited = known.audioOnly === 'line' && line === 'good' && asLongAs >= known.waitMs;
  return waited ? { ...known, audioOnly: false, since: now, waitMs: Math.min(known.waitMs * 2, LONGEST_WAIT_MS) } : known;
}

/** The person decides, and is right: pictures are not taken away again before the line was poor for long. */
export function decide(thin: Thin, audioOnly: boolean, now: number): Thin {
  return { ...thin, audioOnly: audioOnly && 'person', since: now, lineSince: now };
}
