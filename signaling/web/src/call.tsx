// The call: header, stage, panels, controls, and the keys.

import { useCallback, useEffect, useEffectEvent, useRef, useState } from 'react';

import { invitation } from './address';
import { type Layout, type TileId, arrange, ofTile, tileId } from './call/arrange';
import { LiveContext, useCall, useLive } from './call/context';
import type { Live } from './call/live';
import { useMessages } from './call/messages';
import { type Shortcut, meaning, takenKeys } from './call/shortcuts';
import { Sound, StartSound } from './call/sound';
import { useThinLine } from './call/line';
import { ChatPanel } from './chat';
import { Controls, useSwitches } from './controls';
import { Details } from './details/details';
import { CameraOff, Check, Grid, Hand, Link, Mark, People, Spotlight } from './icons';
import { type Choices, recallChoices, rememberChoices } from './memory';
import { Announcer, Notices } from './notices';
import { PeoplePanel } from './people';
import { SettingsDialog } from './settings';
import { Stage } from './stage';
import { people as counted } from './words';

interface Props {
  live: Live;
  name: string;
  /** What one has joined with, or has been given since. */
  token: () => string;
}

export function CallPage({ live, name, token }: Props) {
  useEffect(() => {
    const title = document.title;
    document.title = `${name} · Pipemesh`;
    return () => {
      document.title = title;
    };
  }, [name]);
  return (
    <LiveContext.Provider value={live}>
      <Call name={name} token={token} />
    </LiveContext.Provider>
  );
}

/** As in call.css. */
const COVERING = '(max-width: 859px)';

type Panel = 'chat' | 'people' | undefined;

function Call({ name, token }: Omit<Props, 'live'>) {
  const call = useCall();
  const { room } = useLive();
  const { people, self, speaker } = call;
  const [panel, setPanel] = useState<Panel>();
  const [layout, setLayout] = useState<Layout>('auto');
  const [pinned, setPinned] = useState<TileId>();
  const [page, setPage] = useState(0);
  const [detailed, setDetailed] = useState<TileId>();
  const [choices, setChoices] = useState(() => recallChoices(localStorage));
  const settings = useRef<HTMLDialogElement>(null);
  const heading = useRef<HTMLHeadingElement>(null);
  const line = useThinLine();
  const chat = useMessages(room);
  const [seen, setSeen] = useState(0);
  const switches = useSwitches(room);
  const unread = panel === 'chat' ? 0 : chat.received - seen;

  // From here on one is in the call, and is told where.
  useEffect(() => heading.current?.focus(), []);

  const open = (which: Panel) => {
    // What is seen is what came before the chat opens, and while it is open.
    if (which === 'chat' || panel === 'chat') setSeen(chat.received);
    setPanel(panel === which ? undefined : which);
  };
  const pin = useCallback((id: TileId | undefined) => {
    setPinned(id);
    setPage(0);
  }, []);
  const detail = useCallback((id: TileId) => setDetailed((now) => (now === id ? undefined : id)), []);
  // Where a panel covers all, it goes to show what was asked for.
  const aside = (act: (id: TileId) => void) => (id: TileId) => {
    if (window.matchMedia(COVERING).matches) setPanel(undefined);
    act(id);
  };
  const choose = (changes: Partial<Choices>) => {
    setChoices({ ...choices, ...changes });
    rememberChoices(localStorage, changes);
    setPage(0);
  };

  const screens = people.filter(({ screen }) => screen).map(({ identity }) => identity);
  const seats = people.map(({ identity }) => identity);
  const arrangement = arrange({ people: seats, screens, layout, pinned, speaker, self: self.identity });
  const hands = people.filter(({ handSince }) => handSince !== undefined).length;
  const isGrid = arrangement.main === undefined;
  const turn = () => {
    setPinned(undefined);
    setLayout(isGrid ? 'focus' : 'grid');
    setPage(0);
  };

  useKeys(choices.shortcuts, (shortcut) => {
    const acts: Record<Shortcut, () => void> = {
      microphone: switches.microphone.toggle,
      camera: switches.camera.toggle,
      share: () => switches.screen?.toggle(),
      hand: () => switches.hand?.toggle(),
      chat: () => open('chat'),
      people: () => open('people'),
      view: turn,
      details: () => detail(tileId('camera', self.identity)),
      previous: () => setPage(Math.max(0, page - 1)),
      next: () => setPage(page + 1),
      help: () => settings.current?.showModal(),
    };
    acts[shortcut]();
  });

  const [source, whose] = detailed ? ofTile(detailed) : [];
  const about = people.find(({ identity }) => identity === whose);
  // Whoever comes back later is not asked about any more.
  if (detailed && !about) setDetailed(undefined);
  const tiles = { pinned, onPin: people.length + screens.length > 1 ? pin : undefined, detailed, onDetails: detail };
  return (
    <div className={panel ? 'call with-panel' : 'call'}>
      <header className="call-header">
        <Mark />
        <h1 ref={heading} tabIndex={-1}>
          {name}
        </h1>
        <button type="button" className="quiet count" aria-pressed={panel === 'people'} onClick={() => open('people')} title="People (P)" aria-keyshortcuts="P">
          <People />
          <span className="words">{counted(people.length)}</span>
          <span className="number" aria-hidden="true">
            {people.length}
          </span>
          {hands > 0 && (
            <span className="hands" role="img" aria-label={hands === 1 ? '1 hand raised' : `${hands} hands raised`}>
              <Hand />
              {hands}
            </span>
          )}
        </button>
        <span className="space" />
        {line.audioOnly !== false && (
          <button type="button" className="quiet sound-only" onClick={() => line.decide(false)} title="Sound only">
            <CameraOff />
            <span className="words">Show pictures</span>
          </button>
        )}
        <CopyLink name={name} />
        {people.length + screens.length > 1 && (
          <button type="button" className="quiet" onClick={turn} title={`${isGrid ? 'Focus' : 'Grid'} (G)`} aria-keyshortcuts="G">
            {isGrid ? <Spotlight /> : <Grid />}
            <span className="words">{isGrid ? 'Focus' : 'Grid'}</span>
          </button>
        )}
      </header>
      <main className="call-main">
        <Notices line={line} />
        <Stage arrangement={arrangement} perPage={choices.perPage} page={page} onPage={setPage} audioOnly={line.audioOnly !== false} {...tiles} />
        {about && source && (
          <Details
            key={detailed}
            person={about}
            source={source}
            token={token}
            onClose={() => setDetailed(undefined)}
          />
        )}
        <Announcer />
      </main>
      {panel === 'chat' && <ChatPanel messages={chat.messages} onSend={chat.send} onClose={() => open('chat')} />}
      {panel === 'people' && <PeoplePanel onPin={aside(pin)} onDetails={aside(detail)} onClose={() => open('people')} />}
      <Controls switches={switches} chatOpen={panel === 'chat'} unread={unread} onChat={() => open('chat')} settings={settings} />
      <SettingsDialog dialog={settings} choices={choices} onChoose={choose} audioOnly={line.audioOnly !== false} onAudioOnly={line.decide} />
      <Sound />
      <StartSound />
    </div>
  );
}

function useKeys(enabled: boolean, act: (shortcut: Shortcut) => void): void {
  const press = useEffectEvent((event: KeyboardEvent) => {
    if (event.defaultPrevented) return;
    const shortcut = meaning(event, takenKeys(document));
    if (!shortcut) return;
    event.preventDefault();
    act(shortcut);
  });
  useEffect(() => {
    if (!enabled) return;
    const listen = (event: KeyboardEvent) => press(event);
    document.addEventListener('keydown', listen);
    return () => document.removeEventListener('keydown', listen);
  }, [enabled]);
}

function CopyLink({ name }: { name: string }) {
  const [copied, setCopied] = useState(false);
  useEffect(() => {
    if (!copied) return;
    const timer = setTimeout(() => setCopied(false), 2000);
    return () => clearTimeout(timer);
  }, [copied]);
  const copy = async () => {
    await navigator.clipboard.writeText(invitation(window.location.href, name));
    setCopied(true);
  };
  // Only secure pages have a clipboard, whatever the types say.
  if (!('clipboard' in navigator)) return null;
  return (
    <button type="button" className="quiet link" title="Copy link" onClick={() => void copy().catch(() => undefined)}>
      {copied ? <Check /> : <Link />}
      <span className="words" aria-live="polite">
        {copied ? 'Copied' : 'Copy link'}
      </span>
    </button>
  );
}
