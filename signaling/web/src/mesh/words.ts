// Numbers and states in words. Pure.

import type { ApiError } from './api';
import type { Health, NodeState } from './view';

export const STATES: Record<NodeState, string> = {
  serving: 'serving',
  full: 'full',
  draining: 'draining',
  trying: 'being reached',
  down: 'not reached',
  gone: 'gone',
};

export const HEALTH: Record<Health, string> = {
  good: 'good',
  poor: 'poor',
  bad: 'bad',
  broken: 'down',
  unknown: 'unknown',
};

/** What is not known. */
export const UNKNOWN = '–';

/** Before a unit the line does not break. */
const GAP = '\u00a0';

export function rate(bitsPerSecond: number | null): string {
  if (bitsPerSecond === null) return UNKNOWN;
  if (bitsPerSecond < 500) return `0${GAP}kbit/s`;
  const [value, unit] = bitsPerSecond < 999_500 ? [bitsPerSecond / 1e3, 'kbit/s'] : bitsPerSecond < 999.5e6 ? [bitsPerSecond / 1e6, 'Mbit/s'] : [bitsPerSecond / 1e9, 'Gbit/s'];
  return `${rounded(value, unit === 'kbit/s')}${GAP}${unit}`;
}

function rounded(value: number, whole: boolean): string {
  return whole || value >= 99.5 ? value.toFixed(0) : value.toFixed(1);
}

export function millis(milliseconds: number | null | undefined): string {
  if (milliseconds === null || milliseconds === undefined) return UNKNOWN;
  return `${milliseconds < 9.95 ? milliseconds.toFixed(1) : milliseconds.toFixed(0)}${GAP}ms`;
}

/** Of packets that are lost: the first ones matter. */
export function loss(part: number | null | undefined): string {
  if (part === null || part === undefined) return UNKNOWN;
  const percent = part * 100;
  if (percent === 0) return `0${GAP}%`;
  if (percent < 0.1) return `<${GAP}0.1${GAP}%`;
  return `${percent < 9.95 ? percent.toFixed(1) : percent.toFixed(0)}${GAP}%`;
}

export function load(part: number | null): string {
  return part === null ? UNKNOWN : `${(part * 100).toFixed(0)}${GAP}%`;
}

export function count(number: number | null): string {
  return number === null ? UNKNOWN : number.toLocaleString('en');
}

export function many(number: number | null, one: string, several: string): string {
  return `${count(number)}${GAP}${number === 1 ? one : several}`;
}

export function seconds(milliseconds: number): string {
  const whole = Math.max(0, Math.round(milliseconds / 1000));
  return whole < 120 ? `${whole}${GAP}s` : `${Math.round(whole / 60)}${GAP}min`;
}

/** Shortened in the middle: ids differ at their ends. */
export function shortened(text: string, length: number): string {
  if (text.length <= length) return text;
  if (length <= 1) return '…';
  const tail = Math.floor((length - 1) / 2);
  return `${text.slice(0, length - 1 - tail)}…${tail > 0 ? text.slice(-tail) : ''}`;
}

/** What told the region of somebody. */
const TOLD_BY: Record<string, string> = {
  token: 'their token names the region',
  asked: 'they asked for the region',
  measured: 'the region is the nearest by round trips that they measured',
  proxy: 'a proxy told the region',
  address: 'their address told the region',
  own: 'nothing told the region, so it is that of the signaling they came to',
  nearest: 'the region is the nearest that has nodes',
};

const REASONS: Record<string, string> = {
  ring: 'the ring names this node first for the room',
  overflow: 'the ring’s first choice had too much to do',
  region: 'no node of the region could take the room',
  off_ring: 'no node of the ring could, and this one is not on it yet',
  sticky: 'the room is at home there',
};

/** Why a node was chosen. */
export function reason(name: string): string {
  return REASONS[name] ?? name;
}

export function placed(why: { by: string; reason: string } | null): string {
  if (!why) return 'The join does not say.';
  const [by, chosen] = [TOLD_BY[why.by] ?? why.by, reason(why.reason)];
  return `${capital(chosen)}; ${by}.`;
}

export function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** What is wrong, and what helps. */
export function trouble(error: ApiError): string {
  switch (error.failure) {
    case 'unreachable':
      return `This signaling process cannot be asked: ${error.message}. Any other one with an admin API shows the same mesh.`;
    case 'token':
      return 'The token is wrong.';
    case 'refused':
      return `This signaling process does not answer this page: ${error.message}. Open it under the address that admin.listen names, or set admin.token.`;
    case 'missing':
      return `${capital(error.message)}.`;
    case 'failed':
      return `The signaling process says: ${error.message}.`;
  }
}
