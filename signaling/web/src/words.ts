// What happened, in words a person can act on.

import { ConnectionError, ConnectionErrorReason, ConnectionQuality, DisconnectReason } from 'livekit-client';

export type DeviceKind = 'camera' | 'microphone';

/** Why there is no picture or sound from this device, and what helps. */
export function deviceTrouble(kind: DeviceKind, error: unknown): string {
  const name = error instanceof Error ? error.name : '';
  switch (name) {
    case 'NotAllowedError':
    case 'SecurityError':
      return `The ${kind} is blocked for this page. Allow it in the address bar, or join without it.`;
    case 'NotFoundError':
    case 'OverconstrainedError':
      return `No ${kind} was found. Plug one in, or join without it.`;
    case 'NotReadableError':
    case 'AbortError':
      return `The ${kind} is in use by another program. Close that, or join without it.`;
    case 'InsecureContext':
      return `Browsers give the ${kind} only to pages opened over https or on localhost.`;
    default:
      return `The ${kind} could not be started. You can join without it.`;
  }
}

/** Why joining failed. */
export function joinTrouble(error: unknown): string {
  if (error instanceof ConnectionError) {
    const words = refused(refusal(error));
    if (words) return words;
    switch (error.reason) {
      case ConnectionErrorReason.NotAllowed:
        return 'The server did not accept the token. It may have expired.';
      case ConnectionErrorReason.ServerUnreachable:
      case ConnectionErrorReason.WebSocket:
        return 'The server cannot be reached. Check the network and try again.';
      case ConnectionErrorReason.Timeout:
        return 'The server took too long to answer. Try again.';
      default:
        return 'The call could not be set up. Try again.';
    }
  }
  if (error instanceof TypeError) return 'The server cannot be reached. Check the network and try again.';
  return error instanceof Error && error.message ? error.message : 'Joining did not work. Try again.';
}

/** What a server says by the status alone, which SDKs do not put into words. */
function refused(status: number | undefined): string | undefined {
  switch (status) {
    case 429:
      return 'Too many people join from your network at the same time. Try again in a moment.';
    case 451:
      return 'The token allows no region that can take you now.';
    case 503:
      return 'No server can take you at present. Try again in a moment.';
    default:
      return undefined;
  }
}

/** What a server answers to whoever asks why a join was refused. */
export function isFull(answer: string): boolean {
  return answer.includes('max participants');
}

export const ROOM_IS_FULL = 'The room is full. Ask somebody in it to leave, or try again later.';

/** The status that the server refused with; the SDK keeps those it does not know in the context. */
function refusal(error: { status?: number; context?: unknown }): number | undefined {
  return error.status ?? (error.context as { status?: number } | undefined)?.status;
}

/** Why the call is over; `undefined` if the person left. */
export function endOfCall(reason: DisconnectReason | undefined): string | undefined {
  switch (reason) {
    case DisconnectReason.CLIENT_INITIATED:
      return undefined;
    case DisconnectReason.DUPLICATE_IDENTITY:
      return 'You joined this room again somewhere else, so this tab left.';
    case DisconnectReason.PARTICIPANT_REMOVED:
      return 'You were removed from the room.';
    case DisconnectReason.ROOM_DELETED:
    case DisconnectReason.ROOM_CLOSED:
      return 'The room was closed.';
    case DisconnectReason.SERVER_SHUTDOWN:
      return 'The server is being restarted. You can join again in a moment.';
    default:
      return 'The connection was lost and could not be brought back.';
  }
}

export function quality(value: ConnectionQuality): string {
  switch (value) {
    case ConnectionQuality.Excellent:
      return 'Excellent connection';
    case ConnectionQuality.Good:
      return 'Good connection';
    case ConnectionQuality.Poor:
      return 'Poor connection';
    case ConnectionQuality.Lost:
      return 'Connection lost';
    case ConnectionQuality.Unknown:
      return 'Connection quality not known yet';
  }
}

/** What has become of the connection to the room. */
export function movedTo(place: { node: string; region: string }): string {
  const where = place.region ? `${place.node} in ${place.region}` : place.node;
  return `You were moved to another server, ${where}. The call goes on.`;
}

/** Several people, by name as long as there are few. */
export function names(all: readonly string[]): string {
  const [first = '', second = ''] = all;
  if (all.length <= 1) return first;
  return all.length === 2 ? `${first} and ${second}` : `${first} and ${all.length - 1} others`;
}

export function people(count: number): string {
  return count === 1 ? 'Only you' : `${count} people`;
}

const letters = new Intl.Segmenter();

/** At most two letters for a person without a picture. */
export function initials(name: string): string {
  const words = name.trim().split(/\s+/u);
  const first = (word = '') => letters.segment(word)[Symbol.iterator]().next().value?.segment;
  const last = words.length > 1 ? first(words.at(-1)) : '';
  return ((first(words[0]) ?? '?') + (last ?? '')).toUpperCase();
}

/** One of `count` colours, the same for the same person everywhere. */
export function hue(identity: string, count: number): number {
  let hash = 0;
  for (const char of identity) hash = (hash * 31 + (char.codePointAt(0) ?? 0)) >>> 0;
  return hash % count;
}
