// What the page's address says, and what a reload must not forget.

/** What the address bar asks for; every part may be missing. */
export interface Wish {
  room: string;
  name: string;
  token: string;
  region: string;
}

export function readWish(search: string): Wish {
  const query = new URLSearchParams(search);
  const read = (key: string) => query.get(key)?.trim() ?? '';
  return { room: read('room'), name: read('name'), token: read('token'), region: read('region') };
}

/** The address to give to others: the room and the region, but neither a name nor a token. */
export function invitation(page: string, room: string): string {
  const url = new URL(page);
  const region = url.searchParams.get('region');
  url.search = '';
  url.hash = '';
  url.searchParams.set('room', room);
  if (region) url.searchParams.set('region', region);
  return url.toString();
}

/** Where media and signaling are: the page's own origin. */
export function ownServer(page: string): string {
  const url = new URL(page);
  return `${url.protocol === 'https:' ? 'wss' : 'ws'}://${url.host}`;
}

/** A call that a reload of this tab returns to. It never holds a token. */
export interface Stay {
  room: string;
  name: string;
  identity: string;
  camera: boolean;
  microphone: boolean;
}

type Memory = Pick<Storage, 'getItem' | 'setItem' | 'removeItem'>;

const STAY = 'pipemesh.stay';
const NAME = 'pipemesh.name';

export function rememberStay(memory: Memory, stay: Stay): void {
  memory.setItem(STAY, JSON.stringify(stay));
}

export function forgetStay(memory: Memory): void {
  memory.removeItem(STAY);
}

export function recallStay(memory: Memory): Stay | undefined {
  try {
    const stay = JSON.parse(memory.getItem(STAY) ?? 'null') as Partial<Stay> | null;
    if (!stay?.room || !stay.name || !stay.identity) return undefined;
    const { room, name, identity, camera = false, microphone = false } = stay;
    return { room, name, identity, camera, microphone };
  } catch {
    return undefined;
  }
}

export function rememberName(memory: Memory, name: string): void {
  memory.setItem(NAME, name);
}

export function recallName(memory: Memory): string {
  return memory.getItem(NAME) ?? '';
}

/** Two people may share a name, so the identity is a name with a random tail. */
export function makeIdentity(name: string, random: Uint8Array): string {
  const stem = name
    .normalize('NFKD')
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-+|-+$/g, '')
    .slice(0, 24);
  const tail = Array.from(random, (byte) => byte.toString(16).padStart(2, '0')).join('');
  return `${stem || 'guest'}-${tail}`;
}
