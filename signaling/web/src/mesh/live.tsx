// Asks for nodes and pipes, keeps what has happened lately, and shows the part of the page that is wanted.

import { useCallback, useEffect, useMemo, useState } from 'react';

import { Mark } from '../icons';
import type { Mute, PipeAnswer } from './answers';
import type { Api, ApiError } from './api';
import { Bar } from './bar';
import { DrainDialog } from './drain';
import { MeshPage } from './mesh';
import { linkTo, usePlace } from './place';
import { useNow, usePolled, useShownSince } from './polled';
import { RoomsPage } from './rooms';
import { type Stale, staleOf } from './stale';
import { type News, type NodeView, newsOf, viewNodes, viewPipes } from './view';
import { STATES, seconds, trouble } from './words';

const EVERY_MS = 1000;
const NEWS_KEPT = 8;

const SILENT = { nodes: 'No answer', pipes: 'No answer about pipes' };

interface Seen {
  nodes: NodeView[];
  /** The newest first. */
  news: (News & { at: number })[];
}

interface Props {
  api: Api;
  hasToken: boolean;
  onRefused: () => void;
  onForget: () => void;
}

export function Live({ api, hasToken, onRefused, onForget }: Props) {
  const [seen, setSeen] = useState<Seen>({ nodes: [], news: [] });
  const [draining, setDraining] = useState<{ node: string; drains: boolean } | null>(null);
  const place = usePlace();
  const now = useNow();
  const shownSince = useShownSince();
  const askNodes = useCallback(
    async (stop: AbortSignal) => {
      const answers = await api.nodes(stop);
      const at = Date.now();
      setSeen((before) => {
        const nodes = viewNodes(answers, before.nodes, at);
        const news = before.nodes.length === 0 ? [] : newsOf(before.nodes, nodes).map((it) => ({ ...it, at }));
        return { nodes, news: news.length > 0 ? [...news, ...before.news].slice(0, NEWS_KEPT) : before.news };
      });
      return answers;
    },
    [api],
  );
  const askPipes = useCallback((stop: AbortSignal) => api.pipes(stop), [api]);
  const nodes = usePolled(askNodes, EVERY_MS);
  const pipes = usePolled(askPipes, EVERY_MS);
  const view = useMemo(() => viewPipes(pipesIn(pipes.answer)), [pipes.answer]);
  const isLocked = nodes.error?.failure === 'token';
  useEffect(() => {
    if (isLocked) onRefused();
  }, [isLocked, onRefused]);

  if (isLocked) return null;
  if (!nodes.answer) {
    return <Waiting error={nodes.error} retryMs={nodes.retryAt - now} onAgain={nodes.again} onForget={hasToken ? onForget : undefined} />;
  }
  const stale = staleOf(nodes, pipes, shownSince, now);
  const change = (node: string, drains: boolean) => setDraining({ node, drains });
  const chosen = draining && seen.nodes.find(({ id, state }) => id === draining.node && state !== 'gone');
  // One of the same name that comes later is not asked about.
  if (draining && !chosen) setDraining(null);
  const again = () => {
    nodes.again();
    pipes.again();
  };
  return (
    <div className={stale ? `page stale-${stale.of}` : 'page'}>
      <a className="skip" href="#tables" onClick={focusTables}>
        Skip to the tables
      </a>
      <header className="top">
        <p className="brand">
          <Mark />
          <span className="brand-name">Pipemesh</span>
        </p>
        <nav aria-label="Parts">
          <a href={linkTo({ at: 'mesh' })} aria-current={place.at === 'mesh' ? 'page' : undefined}>
            Mesh
          </a>
          <a href={linkTo({ at: 'rooms', room: null })} aria-current={place.at === 'rooms' ? 'page' : undefined}>
            Rooms
          </a>
        </nav>
        <p className="pulse">
          <span className={stale ? 'beat stopped' : 'beat'} aria-hidden="true" />
          {stale ? SILENT[stale.of] : 'Live'}
          <span className="pulse-host"> · {window.location.host}</span>
        </p>
        {hasToken && (
          <button className="plain" type="button" onClick={onForget}>
            Forget the token
          </button>
        )}
      </header>
      <p className="unseen" role="status">
        {seen.news[0] ? `${seen.news[0].id}: ${STATES[seen.news[0].state]}` : ''}
      </p>
      {stale && (
        <div className="trouble strip">
          <p role="alert">
            {stale.of === 'pipes' && 'Pipes: '}
            {stale.error ? trouble(stale.error) : 'This signaling process takes long to answer.'}
          </p>
          <p>
            {ageOf(stale, now)} {stale.error && <Retry ms={(stale.of === 'nodes' ? nodes : pipes).retryAt - now} />}
          </p>
          <button className="plain" type="button" onClick={again}>
            Ask now
          </button>
        </div>
      )}
      <Bar nodes={seen.nodes} pipes={view} />
      {place.at === 'mesh' ? (
        <MeshPage api={api} nodes={seen.nodes} pipes={view} mute={muteIn(pipes.answer)} pipesError={pipes.error} news={seen.news} now={now} onDrain={change} />
      ) : (
        <RoomsPage api={api} nodes={seen.nodes} room={place.room} />
      )}
      {draining && chosen && (
        <DrainDialog
          key={`${draining.node} ${draining.drains ? 'drain' : 'undrain'}`}
          api={api}
          node={chosen}
          nodes={seen.nodes}
          drains={draining.drains}
          onDone={nodes.again}
          onClose={() => setDraining(null)}
        />
      )}
    </div>
  );
}

interface WaitingProps {
  error: ApiError | undefined;
  retryMs: number;
  onAgain: () => void;
  onForget: (() => void) | undefined;
}

function Waiting({ error, retryMs, onAgain, onForget }: WaitingProps) {
  return (
    <main className="notice">
      <Mark />
      <h1>The mesh</h1>
      {error ? (
        <>
          <p role="alert">{trouble(error)}</p>
          <p>
            <Retry ms={retryMs} />
          </p>
          <button className="primary" type="button" onClick={onAgain}>
            Ask now
          </button>
          {onForget && (
            <button className="plain" type="button" onClick={onForget}>
              Enter another token
            </button>
          )}
        </>
      ) : (
        <p role="status">Asking…</p>
      )}
    </main>
  );
}

/** Not read out: it changes every second. */
function Retry({ ms }: { ms: number }) {
  return <span aria-hidden="true">{ms > 0 ? `It is asked again in ${seconds(ms)}.` : 'It is being asked again.'}</span>;
}

function ageOf({ of, at }: Stale, now: number): string {
  if (at === 0) return 'They are not known.';
  return `What is shown${of === 'pipes' ? ' of them' : ''} is ${seconds(now - at)} old.`;
}

function focusTables(event: React.MouseEvent) {
  event.preventDefault();
  document.getElementById('tables')?.focus();
}

function pipesIn(answer: { pipes: PipeAnswer[] } | undefined): PipeAnswer[] {
  return answer?.pipes ?? [];
}

function muteIn(answer: { mute: Mute[] } | undefined): Mute[] {
  return answer?.mute ?? [];
}
