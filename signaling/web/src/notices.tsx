// What happens to the call, in words: on the page for a while, and for those who do not see it.

import { ConnectionState, RoomEvent } from 'livekit-client';
import { useEffect, useState } from 'react';

import { useCall, useLive } from './call/context';
import { type Raised, follow } from './call/hands';
import type { ThinLine } from './call/line';
import type { Person } from './call/live';
import { Hand } from './icons';
import { movedTo, names } from './words';

const SHOWN_MS = 8000;

export function Notices({ line }: { line: ThinLine }) {
  const { link, returns, moved, people } = useCall();
  const isBack = useLately(returns);
  const isThin = useLately(line.falls);
  const wasMoved = useLately(moved?.count ?? 0);
  const raised = people.filter(({ handSince, isLocal }) => handSince !== undefined && !isLocal);
  return (
    <div className="notices">
      <div role="status">
        {link === 'reconnecting' && <p>Reconnecting… The call goes on when the network is back.</p>}
        {link === 'connecting' && <p>Connecting…</p>}
        {link === 'connected' && wasMoved && moved && <p>{movedTo(moved.place)}</p>}
        {link === 'connected' && isBack && !wasMoved && <p>The connection is back.</p>}
        {line.audioOnly === 'line' && isThin && <p>Your line is thin, so you hear the others without their pictures.</p>}
      </div>
      <Hands raised={raised} />
    </div>
  );
}

function Hands({ raised }: { raised: Person[] }) {
  const up = raised.map(({ identity }) => identity);
  // Those that were up before one came are no news.
  const [hands, setHands] = useState<Raised>(() => ({ up, fresh: [] }));
  const followed = follow(hands, up);
  if (followed !== hands) setHands(followed);
  const { fresh } = followed;
  const news = fresh.join('\n');
  useEffect(() => {
    if (!news) return;
    const timer = setTimeout(() => setHands((before) => ({ ...before, fresh: [] })), SHOWN_MS);
    return () => clearTimeout(timer);
  }, [news]);
  const called = fresh.flatMap((identity) => raised.find((person) => person.identity === identity)?.name ?? []);
  return (
    <div role="status">
      {called.length > 0 && (
        <p className="calm">
          <Hand />
          {names(called)} raised {called.length === 1 ? 'a hand' : 'hands'}
        </p>
      )}
    </div>
  );
}

/** Whether a number has changed a moment ago. */
function useLately(count: number): boolean {
  const [past, setPast] = useState(count);
  useEffect(() => {
    if (past === count) return;
    const timer = setTimeout(() => setPast(count), SHOWN_MS);
    return () => clearTimeout(timer);
  }, [past, count]);
  return past !== count;
}

/** Who comes and goes. Not while one is away oneself: then everybody seems to go. */
export function Announcer() {
  const live = useLive();
  const [words, setWords] = useState('');
  useEffect(() => {
    const { room } = live;
    const timers = new Set<ReturnType<typeof setTimeout>>();
    const say = (what: string) => (who: { name?: string; identity: string }) => {
      // The SDK lets everybody go a moment before it says that it joins anew.
      const timer = setTimeout(() => {
        timers.delete(timer);
        if (room.state === ConnectionState.Connected) setWords(`${who.name || who.identity} ${what}`);
      });
      timers.add(timer);
    };
    const [came, left] = [say('joined'), say('left')];
    room.on(RoomEvent.ParticipantConnected, came).on(RoomEvent.ParticipantDisconnected, left);
    return () => {
      timers.forEach(clearTimeout);
      room.off(RoomEvent.ParticipantConnected, came).off(RoomEvent.ParticipantDisconnected, left);
    };
  }, [live]);
  return (
    <p className="unseen" role="log">
      {words}
    </p>
  );
}
