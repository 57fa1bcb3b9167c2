// Which page is shown: the lobby, the call, or the words after it.

import { type DisconnectReason, type LocalTrack, Room, RoomEvent } from 'livekit-client';
import { useCallback, useEffect, useRef, useState } from 'react';

import { type Stay, forgetStay, invitation, makeIdentity, ownServer, readWish, recallName, recallStay, rememberName, rememberStay } from './address';
import { CallPage } from './call';
import { Live } from './call/live';
import { Mark } from './icons';
import { Lobby, type Choice } from './lobby';
import { recallChoices, rememberChoices } from './memory';
import { measuredWithin, surveyRegions, withWhereabouts } from './regions';
import { NoDemo, type Ticket, demoTicket, describeToken } from './token';
import { ROOM_IS_FULL, endOfCall, isFull, joinTrouble } from './words';

type Page =
  | { at: 'lobby'; trouble?: string; needsToken?: boolean }
  | { at: 'joining'; room: string }
  | { at: 'call'; live: Live; name: string; token: () => string }
  | { at: 'over'; words: string };

/** What a join needs besides the place. */
interface Media {
  tracks: LocalTrack[];
  camera: boolean;
  microphone: boolean;
  cameraId?: string;
  microphoneId?: string;
}

/** How long a join waits for round trips that are not measured yet. */
const MEASURING_MS = 500;

let pageGoes = false;
// Earlier than the SDK's own listener, which is added when a room is entered.
window.addEventListener('beforeunload', () => {
  pageGoes = true;
});
window.addEventListener('pagehide', () => {
  pageGoes = true;
});

export function App() {
  const wish = readWish(window.location.search);
  const [stay] = useState(() => (wish.token ? undefined : recallStay(sessionStorage)));
  const [page, setPage] = useState<Page>(stay ? { at: 'joining', room: stay.room } : { at: 'lobby' });
  const resumed = useRef(false);
  // In the lobby there is time.
  const [survey] = useState(() => surveyRegions(window.location.href));

  /** Whether it worked. */
  const join = useCallback(async (place: Stay, token: string, media: Media): Promise<boolean> => {
    const { speakerId, region: chosen } = recallChoices(localStorage);
    const room = new Room({
      adaptiveStream: true,
      dynacast: true,
      videoCaptureDefaults: { deviceId: media.cameraId },
      audioCaptureDefaults: { deviceId: media.microphoneId },
      audioOutput: { deviceId: speakerId },
    });
    const live = new Live(room);
    let pass = token;
    try {
      const page = window.location.href;
      const region = readWish(window.location.search).region || (chosen ?? '');
      const guest = { room: place.room, identity: place.identity, name: place.name, region };
      const ticket: Ticket = token ? { token, url: ownServer(page) } : await demoTicket(guest, page);
      room.on(RoomEvent.Disconnected, (reason?: DisconnectReason) => {
        // The SDK hangs up when the page goes; a reload comes back.
        if (pageGoes) return;
        live.end();
        const words = endOfCall(reason);
        forgetStay(sessionStorage);
        setPage(words ? { at: 'over', words } : { at: 'lobby' });
      });
      pass = ticket.token;
      const measured = survey.then(({ roundTrips }) => roundTrips);
      const roundTrips = await measuredWithin(measured, MEASURING_MS);
      // Pictures are subscribed to as far as they are seen.
      const joining = room.connect(withWhereabouts(ticket.url, region, roundTrips), ticket.token, { autoSubscribe: false });
      room.engine.on('tokenRefreshed', (fresh) => {
        pass = fresh;
      });
      await joining;
    } catch (error) {
      live.end();
      room.removeAllListeners();
      forgetStay(sessionStorage);
      const full = pass !== '' && (await saysFull(pass));
      const trouble = full ? ROOM_IS_FULL : joinTrouble(error);
      setPage({ at: 'lobby', trouble, needsToken: error instanceof NoDemo });
      return false;
    }
    if (!token) {
      rememberStay(sessionStorage, place);
      window.history.replaceState(null, '', invitation(window.location.href, place.room));
    }
    setPage({ at: 'call', live, name: place.room, token: () => pass });
    void publish(room, media);
    return true;
  }, [survey]);

  useEffect(() => {
    if (!stay || resumed.current) return;
    resumed.current = true;
    void join(stay, '', { tracks: [], camera: stay.camera, microphone: stay.microphone });
  }, [stay, join]);

  const enter = (choice: Choice) => {
    const { name, token, tracks, cameraId, microphoneId } = choice;
    const described = describeToken(token);
    rememberName(localStorage, name);
    rememberChoices(localStorage, { camera: choice.wantsCamera, microphone: choice.wantsMicrophone, cameraId, microphoneId });
    const identity = makeIdentity(name, crypto.getRandomValues(new Uint8Array(3)));
    const place = {
      room: described?.room ?? choice.room,
      name,
      identity,
      camera: choice.camera,
      microphone: choice.microphone,
    };
    return join(place, token, {
      tracks,
      camera: choice.camera,
      microphone: choice.microphone,
      cameraId,
      microphoneId,
    });
  };

  switch (page.at) {
    case 'lobby':
      return (
        <Lobby
          room={wish.room}
          name={wish.name || recallName(localStorage)}
          token={wish.token}
          needsToken={page.needsToken ?? false}
          trouble={page.trouble}
          survey={survey}
          asked={wish.region}
          onJoin={enter}
        />
      );
    case 'joining':
      return (
        <Notice title={`Returning to ${page.room}`}>
          <p role="status">Connecting…</p>
        </Notice>
      );
    case 'call':
      return <CallPage live={page.live} name={page.name} token={page.token} />;
    case 'over':
      return (
        <Notice title="The call is over">
          <p role="alert">{page.words}</p>
          <button className="primary" type="button" autoFocus onClick={() => setPage({ at: 'lobby' })}>
            Back to the lobby
          </button>
        </Notice>
      );
  }
}

function Notice({ title, children }: { title: string; children: React.ReactNode }) {
  return (
    <main className="notice">
      <Mark />
      <h1>{title}</h1>
      {children}
    </main>
  );
}

/** Browsers see nothing of a refused WebSocket, so the reason is asked for. */
async function saysFull(token: string): Promise<boolean> {
  try {
    const url = new URL('/rtc/validate', window.location.href);
    url.searchParams.set('access_token', token);
    const answer = await fetch(url, { cache: 'no-store', signal: AbortSignal.timeout(3000) });
    return answer.status === 429 && isFull(await answer.text());
  } catch {
    return false;
  }
}

/** A device that fails here is shown as off in the call; the person can try again there. */
async function publish(room: Room, media: Media): Promise<void> {
  const person = room.localParticipant;
  const given = new Set(media.tracks.map((track) => track.kind as string));
  const work = media.tracks.map((track) => person.publishTrack(track) as Promise<unknown>);
  if (media.camera && !given.has('video')) work.push(person.setCameraEnabled(true));
  if (media.microphone && !given.has('audio')) work.push(person.setMicrophoneEnabled(true));
  await Promise.allSettled(work);
}
