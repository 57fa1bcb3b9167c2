// How one tile gets here, or how one's own gets out: over the call, while somebody wants to know.

import { LocalTrack, RemoteTrack, Track } from 'livekit-client';
import { useEffect, useRef, useState } from 'react';

import type { Source } from '../call/arrange';
import { useCall, useLive } from '../call/context';
import type { Person } from '../call/live';
import { Check, Close, Copy } from '../icons';
import { Poll } from '../poll';
import { quality } from '../words';
import { type Figures, type Stat, figures } from './figures';
import { type Told, askPaths } from './paths';
import { type Group, asText, lineRows, pathRows, placeRows, receivedRows, sentRows } from './rows';

const LOOK_EVERY_MS = 2000;
/** Of signaling, which asks nodes each time. */
const ASK_EVERY_MS = 4000;
const LIMIT_MS = 10_000;

interface Props {
  person: Person;
  source: Source;
  token: () => string;
  onClose: () => void;
}

export function Details({ person, source, token, onClose }: Props) {
  const { self } = useCall();
  const { room } = useLive();
  const close = useRef<HTMLButtonElement>(null);
  const told = usePaths(room.name, token, !person.isLocal);
  const picture = source === 'screen' ? person.screen : person.camera;
  const seen = useFigures(picture?.publication.track);
  const sound = source === 'camera' ? person.microphone : undefined;
  const heard = useFigures(sound?.track);

  // Whoever opened it goes on here, and gets the focus back, unless it is somewhere else by then.
  const opener = useRef<Element>(null);
  useEffect(() => {
    const before = (opener.current ??= document.activeElement);
    close.current?.focus();
    return () => {
      const isLost = document.activeElement === null || document.activeElement === document.body;
      if (isLost && before instanceof HTMLElement && before.isConnected) before.focus();
    };
  }, []);

  const what = source === 'screen' ? 'Screen' : 'Picture';
  const groups: Group[] = person.isLocal
    ? [
        { title: 'You', rows: [...placeRows(self.place), ...lineRows(heard ?? seen)] },
        { title: `${what} sent`, rows: sentRows(seen) },
        ...(source === 'camera' ? [{ title: 'Sound sent', rows: sentRows(heard) }] : []),
      ]
    : received(person, self, what, { told, seen, heard, source });
  const name = source === 'screen' ? `screen of ${person.name}` : person.isLocal ? 'your connection' : person.name;
  const title = `Details of ${name}`;
  const text = () =>
    asText(title, groups, [
      `Time: ${new Date().toISOString()}`,
      `Room: ${room.name}`,
      `You: ${self.identity} on ${self.place.node || 'an unknown node'}`,
      `About: ${person.identity}`,
      `Connection: ${quality(person.quality)}`,
      `Browser: ${navigator.userAgent}`,
    ]);

  return (
    <section className="details" aria-label={title}>
      <header>
        <h2>{title}</h2>
        <CopyText text={text} />
        <button ref={close} type="button" className="icon-button" onClick={onClose} aria-label="Close the details">
          <Close />
        </button>
      </header>
      <div className="details-rows" tabIndex={0} role="group" aria-label="Figures">
        {groups.map((group) => (
          <div key={group.title}>
            <h3>{group.title}</h3>
            <dl>
              {group.rows.map((row) => (
                <div key={row.name}>
                  <dt>{row.name}</dt>
                  <dd>
                    {row.value}
                    {row.note && <small>{row.note}</small>}
                  </dd>
                </div>
              ))}
            </dl>
          </div>
        ))}
      </div>
    </section>
  );
}

interface Known {
  told: Told | undefined;
  seen: Figures | undefined;
  heard: Figures | undefined;
  source: Source;
}

function received(person: Person, self: Person, what: string, { told, seen, heard, source }: Known): Group[] {
  const picture = source === 'screen' ? person.screen : person.camera;
  const path = (sid: string | undefined) => told?.tracks?.find(({ track }) => track === sid);
  const [pictured, sounded] = [path(picture?.publication.trackSid), path(person.microphone?.trackSid)];
  const trip = (seen ?? heard)?.roundTripMs;
  return [
    { title: 'Where they are', rows: placeRows({ ...person.place, placement: '' }) },
    { title: 'How it gets here', rows: pathRows(person.place, self.place, pictured ?? sounded, told, trip) },
    { title: what, rows: receivedRows(seen, pictured) },
    ...(source === 'camera' && person.microphone ? [{ title: 'Sound', rows: receivedRows(heard, sounded) }] : []),
  ];
}

function CopyText({ text }: { text: () => string }) {
  const [copied, setCopied] = useState(false);
  useEffect(() => {
    if (!copied) return;
    const timer = setTimeout(() => setCopied(false), 2000);
    return () => clearTimeout(timer);
  }, [copied]);
  // Only secure pages have a clipboard, whatever the types say.
  if (!('clipboard' in navigator)) return null;
  const copy = async () => {
    await navigator.clipboard.writeText(text());
    setCopied(true);
  };
  return (
    <button type="button" className="quiet" onClick={() => void copy().catch(() => undefined)}>
      {copied ? <Check /> : <Copy />}
      <span aria-live="polite">{copied ? 'Copied' : 'Copy as text'}</span>
    </button>
  );
}

/** Of a track that is running. */
function useFigures(track: Track | undefined): Figures | undefined {
  const [known, setKnown] = useState<{ of: Track; figures: Figures }>();
  useEffect(() => {
    if (!(track instanceof RemoteTrack || track instanceof LocalTrack)) return;
    let before: Stat[] = [];
    const poll = new Poll({
      ask: () => track.getRTCStatsReport(),
      every: LOOK_EVERY_MS,
      onAnswer: (report) => {
        const after = [...((report ?? new Map()) as Map<string, Stat>).values()];
        if (after.length === 0) return;
        setKnown({ of: track, figures: figures(before, after) });
        before = after;
      },
      // The last ones stay.
      onFailure: () => undefined,
    });
    poll.start();
    // The first figures that are differences come soon.
    const soon = setTimeout(() => poll.now(), LOOK_EVERY_MS / 4);
    return () => {
      clearTimeout(soon);
      poll.stop();
    };
  }, [track]);
  return known?.of === track ? known?.figures : undefined;
}

function usePaths(room: string, token: () => string, wanted: boolean): Told | undefined {
  const [told, setTold] = useState<Told>();
  useEffect(() => {
    if (!wanted) return;
    const poll = new Poll({
      ask: (stop) => askPaths(window.location.href, room, token(), AbortSignal.any([stop, AbortSignal.timeout(LIMIT_MS)])),
      every: ASK_EVERY_MS,
      onAnswer: (tracks) => setTold({ tracks }),
      onFailure: (error) => setTold({ unknown: error instanceof Error ? error.message : String(error) }),
    });
    poll.start();
    return () => poll.stop();
  }, [room, token, wanted]);
  return told;
}
