// What a list of arrivals says: of gaps, of losses, of who is heard again.

import type { Arrivals } from '../page/arrivals';

/** All times in milliseconds since 1970. */
export interface Window {
  from: number;
  to: number;
}

/** The longest time without an arrival that lies, at least in part, in the window. Before the first of all there is none. */
export function longestGap(times: number[], { from, to }: Window): number {
  let longest = 0;
  let last: number | undefined;
  for (const time of [...times, Infinity]) {
    const end = Math.min(time, to);
    if (last !== undefined && end > from) longest = Math.max(longest, end - last);
    if (time >= to) break;
    last = time;
  }
  return longest;
}

/** Numbers that were left out between the first arrival and the last, and never came. */
export function missing({ numbers }: Arrivals): number {
  let highest: number | undefined;
  const seen = new Set<number>();
  let first = 0;
  for (const number of numbers) {
    // Of 16 bits, so it is counted on from the highest: half of them are ahead, the other half late.
    const step: number = highest === undefined ? 0 : ((number - highest + 0x1_8000) & 0xffff) - 0x8000;
    const extended: number = highest === undefined ? number : highest + step;
    if (highest === undefined) first = extended;
    highest = Math.max(highest ?? extended, extended);
    if (extended >= first) seen.add(extended);
  }
  return highest === undefined ? 0 : highest - first + 1 - seen.size;
}

/** All that arrived of a kind, in order. */
export function merged(all: Arrivals[], kind: Arrivals['kind']): number[] {
  const times = all.filter((it) => it.kind === kind).flatMap((it) => it.times);
  return times.sort((a, b) => a - b);
}

/** Whose sound, or picture, has come since then. */
export function heard(all: Arrivals[], kind: Arrivals['kind'], since: number): Set<string> {
  const live = all.filter((it) => it.kind === kind && (it.times.at(-1) ?? 0) >= since);
  return new Set(live.map(({ participant }) => participant));
}

/** Those of a kind on which something came in the half second before that. */
export function alive(all: Arrivals[], kind: Arrivals['kind'], then: number): Arrivals[] {
  return all.filter((it) => it.kind === kind && it.times.some((time) => time <= then && time > then - 500));
}

/** When the first of a kind came that fits, on a peer connection made after so many others. */
export function first(all: Arrivals[], kind: Arrivals['kind'], connections: number, fits: (arrivals: Arrivals) => boolean = () => true): number {
  const later = all.filter((it) => it.kind === kind && it.connection >= connections && fits(it));
  return Math.min(...later.map(({ times }) => times[0] ?? Infinity));
}

/** What a share of them stays within: 0.95 for nineteen of twenty. */
export function quantile(values: number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? NaN;
}
