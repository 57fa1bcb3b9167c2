// Which page is shown: the lobby, the call, or the words after it.

import { type DisconnectReason, type LocalTrack, Room, RoomEvent } from 'livekit-client';
import { useCallback, useEffect, useRef, useState } from 'react';

import { type Stay, forgetStay, invitation, makeIdentity, ownServer, readWish, recallName, recallStay, rememberName, rememberStay } from './address';
import { CallPage } from './call';
import { Mark } from './icons';
import { Lobby, type Choice } from './lobby';
import { measureRegions, measuredWithin, withWhereabouts } from './regions';
import { NoDemo, type Ticket, demoTicket, describeToken } from './token';
import { endOfCall, joinTrouble } from './words';

type Page =
  | { at: 'lobby'; trouble?: string; needsToken?: boolean }
  | { at: 'joining'; room: string }
  | { at: 'call'; room: Room; name: string }
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
  const [measuring] = useState(() => measureRegions(window.location.href));

  /** Whether it worked. */
  const join = useCallback(async (place: Stay, token: string, media: Media): Promise<boolean> => {
    const room = new Room({
      adaptiveStream: true,
      dynacast: true,
      videoCaptureDefaults: { deviceId: media.cameraId },
      audioCaptureDefaults: { deviceId: media.microphoneId },
    });
    try {
      const page = window.location.href;
      const { region } = readWish(window.location.search);
      const guest = { room: place.room, identity: place.identity, name: place.name, region };
      const ticket: Ticket = token ? { token, url: ownServer(page) } : await demoTicket(guest, page);
      room.on(RoomEvent.Disconnected, (reason?: DisconnectReason) => {
        // The SDK hangs up when the page goes; a reload comes back.
        if (pageGoes) return;
        const words = endOfCall(reason);
        forgetStay(sessionStorage);
        setPage(words ? { at: 'over', words } : { at: 'lobby' });
      });
      const roundTrips = await measuredWithin(measuring, MEASURING_MS);
      await room.connect(withWhereabouts(ticket.url, region, roundTrips), ticket.token);
    } catch (error) {
      room.removeAllListeners();
      forgetStay(sessionStorage);
      setPage({ at: 'lobby', trouble: joinTrouble(error), needsToken: error instanceof NoDemo });
      return false;
    }
    if (!token) {
      rememberStay(sessionStorage, place);
      window.history.replaceState(null, '', invitation(window.location.href, place.room));
    }
    setPage({ at: 'call', room, name: place.room });
    void publish(room, media);
    return true;
  }, [measuring]);

  useEffect(() => {
    if (!stay || resumed.current) return;
    resumed.current = true;
    void join(stay, '', { tracks: [], camera: stay.camera, microphone: stay.microphone });
  }, [stay, join]);

  const enter = (choice: Choice) => {
    const { name, token, tracks, cameraId, microphoneId } = choice;
    const described = describeToken(token);
    rememberName(localStorage, name);
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
      return <CallPage room={page.room} name={page.name} />;
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

/** A device that fails here is shown as off in the call; the person can try again there. */
async function publish(room: Room, media: Media): Promise<void> {
  const person = room.localParticipant;
  const given = new Set(media.tracks.map((track) => track.kind as string));
  const work = media.tracks.map((track) => person.publishTrack(track) as Promise<unknown>);
  if (media.camera && !given.has('video')) work.push(person.setCameraEnabled(true));
  if (media.microphone && !given.has('audio')) work.push(person.setMicrophoneEnabled(true));
  await Promise.allSettled(work);
}
