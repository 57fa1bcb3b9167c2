// Where the permission to join comes from: the server's demo mode, or a token somebody gave us.

import { ownServer } from './address';

export interface Ticket {
  url: string;
  token: string;
}

/** The server hands out no tokens; the person has to bring one. */
export class NoDemo extends Error {
  constructor() {
    super('This server needs a token. Paste the one you were given.');
  }
}

/** The server answered, but not with a ticket. */
export class Refused extends Error {}

export interface Guest {
  room: string;
  identity: string;
  name: string;
  region: string;
}

export async function demoTicket(guest: Guest, page: string): Promise<Ticket> {
  const url = new URL('/demo/token', page);
  for (const [key, value] of Object.entries(guest) as [string, string][]) {
    if (value) url.searchParams.set(key, value);
  }
  const answer = await fetch(url, { cache: 'no-store' });
  if (answer.status === 404) throw new NoDemo();
  if (answer.status === 429) throw new Refused('The server is busy. Try again in a moment.');
  if (!answer.ok) throw new Refused(`The server refused with status ${answer.status}.`);
  const body = (await answer.json()) as Partial<Ticket>;
  if (!body.token) throw new Refused('The server answered without a token.');
  return { token: body.token, url: ownServer(page) };
}

/** What a token says about itself, to show it. Nothing is verified here; the server does that. */
export function describeToken(token: string): { room: string; name: string } | undefined {
  try {
    const payload = token.split('.')[1] ?? '';
    const text = atob(payload.replaceAll('-', '+').replaceAll('_', '/'));
    const bytes = Uint8Array.from(text, (char) => char.charCodeAt(0));
    const claims = JSON.parse(new TextDecoder().decode(bytes)) as {
      sub?: string;
      name?: string;
      video?: { room?: string };
    };
    const room = claims.video?.room;
    return room ? { room, name: claims.name ?? claims.sub ?? '' } : undefined;
  } catch {
    return undefined;
  }
}
