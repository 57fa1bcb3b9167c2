// All rooms of the mesh, to pick one.

import { useCallback, useState } from 'react';

import type { RoomSummary } from './answers';
import type { Api } from './api';
import { linkTo } from './place';
import { usePolled } from './polled';
import { RoomView } from './room';
import { type NodeView, compare } from './view';
import { count, many, trouble } from './words';

/** Each is read from the store for it. */
const EVERY_MS = 5000;
/** The store tells of some hundreds at a time. */
const MOST_PAGES = 8;
const SHOWN = 100;

interface Props {
  api: Api;
  nodes: NodeView[];
  room: string | null;
}

export function RoomsPage({ api, nodes, room }: Props) {
  const ask = useCallback((stop: AbortSignal) => allRooms(api, stop), [api]);
  const { answer, error } = usePolled(ask, EVERY_MS);
  const [wanted, setWanted] = useState('');
  const rooms = answer?.rooms ?? [];
  const found = rooms.filter(({ name }) => name.toLowerCase().includes(wanted.trim().toLowerCase()));
  const open = (event: React.SyntheticEvent) => {
    event.preventDefault();
    const name = wanted.trim();
    // One that is not listed may be there all the same.
    if (name !== '') window.location.hash = linkTo({ at: 'rooms', room: found.length === 1 && found[0] ? found[0].name : name });
  };
  return (
    <main className="rooms">
      <section className="picker" aria-labelledby="rooms">
        <h1 id="rooms">Rooms</h1>
        <form onSubmit={open} role="search">
          <label>
            <span className="unseen">Find a room</span>
            <input type="search" placeholder="Find a room" value={wanted} onChange={(event) => setWanted(event.target.value)} />
          </label>
        </form>
        {error && <p className="trouble">{trouble(error)}</p>}
        {answer && (
          <p className="quiet" role="status">
            {wanted.trim() === '' ? many(rooms.length, 'room', 'rooms') : `${count(found.length)} of ${count(rooms.length)}`}
            {answer.more && ', and more that are not listed: enter their name'}
          </p>
        )}
        <ul>
          {found.slice(0, SHOWN).map((it) => (
            <li key={it.name}>
              <a href={linkTo({ at: 'rooms', room: it.name })} aria-current={it.name === room ? 'true' : undefined}>
                <span className="room-name">{it.name}</span>
                <small>
                  {many(it.participants, 'person', 'people')} · {many(it.homes.length, 'home', 'homes')}
                </small>
              </a>
            </li>
          ))}
        </ul>
        {found.length > SHOWN && <p className="quiet">The {SHOWN} largest are listed.</p>}
        {answer && rooms.length === 0 && <p className="empty">No room is open.</p>}
      </section>
      <section className="opened" id="tables" tabIndex={-1} aria-label="Room">
        {room === null ? <p className="empty">Pick a room to see where its tracks get to, and why its people are where they are.</p> : <RoomView key={room} api={api} name={room} nodes={nodes} />}
      </section>
    </main>
  );
}

interface AllRooms {
  /** The largest first. */
  rooms: RoomSummary[];
  more: boolean;
}

async function allRooms(api: Api, stop: AbortSignal): Promise<AllRooms> {
  const rooms = new Map<string, RoomSummary>();
  let next: number | null = null;
  for (let page = 0; page < MOST_PAGES; page += 1) {
    const answer = await api.rooms(next, stop);
    // A room that moves within the store while it is read is told twice.
    for (const room of answer.rooms) rooms.set(room.name, room);
    next = answer.next;
    if (next === null) break;
  }
  const sorted = [...rooms.values()].sort((one, other) => other.participants - one.participants || compare(one.name, other.name));
  return { rooms: sorted, more: next !== null };
}
