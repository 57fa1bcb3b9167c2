// Which part of the page is shown, as its address says it after the `#`. The token is never there.

import { useSyncExternalStore } from 'react';

export type Place = { at: 'mesh' } | { at: 'rooms'; room: string | null };

export function placeIn(hash: string): Place {
  const [, first, ...rest] = hash.replace(/^#/, '').split('/');
  if (first !== 'rooms') return { at: 'mesh' };
  const room = decoded(rest.join('/'));
  return { at: 'rooms', room: room === '' ? null : room };
}

export function linkTo(place: Place): string {
  if (place.at === 'mesh') return '#/';
  return place.room === null ? '#/rooms' : `#/rooms/${encodeURIComponent(place.room)}`;
}

export function usePlace(): Place {
  return placeIn(useSyncExternalStore(listen, () => window.location.hash));
}

function listen(changed: () => void): () => void {
  window.addEventListener('hashchange', changed);
  return () => window.removeEventListener('hashchange', changed);
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
