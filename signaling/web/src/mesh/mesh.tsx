// Nodes and pipes: the picture, and beside it the same as tables, and all of what is chosen.

import { useState } from 'react';

import type { Mute } from './answers';
import type { Api, ApiError } from './api';
import { Details } from './details';
import { DrainButton } from './drain';
import { Sign } from './glyph';
import { Load } from './load';
import { type Chosen, Picture } from './picture';
import { Placements } from './placements';
import { type Column, Table } from './table';
import type { News, NodeView, PipeView } from './view';
import { HEALTH, STATES, count, loss, millis, rate, seconds, trouble } from './words';

interface Props {
  api: Api;
  nodes: NodeView[];
  pipes: PipeView[];
  mute: Mute[];
  pipesError: ApiError | undefined;
  news: (News & { at: number })[];
  now: number;
  onDrain: (node: string, drains: boolean) => void;
}

const TABS = ['Nodes', 'Pipes', 'Placements'] as const;

export function MeshPage({ api, nodes, pipes, mute, pipesError, news, now, onDrain }: Props) {
  const [chosen, setChosen] = useState<Chosen>(null);
  const [tab, setTab] = useState<(typeof TABS)[number]>('Nodes');
  const choose = (next: Chosen) => {
    setChosen(next);
    if (next) setTab(next.kind === 'node' ? 'Nodes' : 'Pipes');
  };
  return (
    <main className="mesh">
      <section className="stage" aria-labelledby="picture">
        <h1 id="picture" className="unseen">
          Picture of the mesh
        </h1>
        <Picture nodes={nodes} pipes={pipes} chosen={chosen} onChoose={choose} />
        <Legend />
        {news.length > 0 && (
          <section className="lately" aria-labelledby="lately">
            <h2 id="lately">Lately</h2>
            <ol>
              {news.map(({ id, state, at }) => (
                <li key={`${id} ${at} ${state}`}>
                  <Sign state={state} /> <span className="id">{id}</span> {STATES[state]} <small>{seconds(now - at)} ago</small>
                </li>
              ))}
            </ol>
          </section>
        )}
      </section>
      <section className="side" id="tables" tabIndex={-1} aria-label="Tables">
        {chosen && <Details chosen={chosen} nodes={nodes} pipes={pipes} onDrain={onDrain} onChoose={choose} />}
        <Tabs tab={tab} onTab={setTab} />
        <div className="panel" role="tabpanel" id={`panel-${tab}`} aria-labelledby={`tab-${tab}`}>
          {tab === 'Nodes' && (
            <Table caption="Nodes" columns={nodeColumns(choose, onDrain)} rows={nodes} id={({ id }) => id} chosen={idOf(chosen, 'node')} empty="No node is registered." />
          )}
          {tab === 'Pipes' && (
            <>
              {pipesError && <p className="trouble">{trouble(pipesError)}</p>}
              <Table caption="Pipes" columns={pipeColumns(choose)} rows={pipes} id={({ id }) => id} chosen={idOf(chosen, 'pipe')} empty="There is no pipe: no room is on several nodes." />
              {mute.map(({ node, why }) => (
                <p key={node} className="quiet note">
                  <span className="id">{node}</span> says nothing of its pipes: {why}.
                </p>
              ))}
            </>
          )}
          {tab === 'Placements' && <Placements api={api} />}
        </div>
      </section>
    </main>
  );
}

function Tabs({ tab, onTab }: { tab: string; onTab: (tab: (typeof TABS)[number]) => void }) {
  const pressed = (event: React.KeyboardEvent, index: number) => {
    const step = event.key === 'ArrowRight' ? 1 : event.key === 'ArrowLeft' ? -1 : 0;
    const next = TABS[(index + step + TABS.length) % TABS.length];
    if (step === 0 || !next) return;
    event.preventDefault();
    onTab(next);
    document.getElementById(`tab-${next}`)?.focus();
  };
  return (
    <div className="tabs" role="tablist" aria-label="What is listed">
      {TABS.map((name, index) => (
        <button
          key={name}
          id={`tab-${name}`}
          type="button"
          role="tab"
          aria-selected={tab === name}
          aria-controls={tab === name ? `panel-${name}` : undefined}
          tabIndex={tab === name ? 0 : -1}
          onClick={() => onTab(name)}
          onKeyDown={(event) => pressed(event, index)}
        >
          {name}
        </button>
      ))}
    </div>
  );
}

function nodeColumns(choose: (chosen: Chosen) => void, onDrain: (node: string, drains: boolean) => void): Column<NodeView>[] {
  return [
    {
      name: 'Node',
      by: ({ id }) => id,
      cell: ({ id, region }) => (
        <button type="button" className="pick" onClick={() => choose({ kind: 'node', id })}>
          <span className="id">{id}</span>
          <small>{region}</small>
        </button>
      ),
    },
    {
      name: 'State',
      by: ({ state }) => STATES[state],
      cell: ({ state }) => (
        <span className={`state ${state}`}>
          <Sign state={state} />
          {STATES[state]}
        </span>
      ),
    },
    { name: 'Load', by: (node) => node.load, cell: (node) => <Load value={node.load} />, numeric: true },
    { name: 'People', by: ({ people }) => people, cell: ({ people }) => count(people), numeric: true },
    { name: 'Rooms', by: ({ rooms }) => rooms, cell: ({ rooms }) => count(rooms), numeric: true, minor: true },
    { name: 'Sends', by: ({ bitsPerSecond }) => bitsPerSecond, cell: ({ bitsPerSecond }) => rate(bitsPerSecond), numeric: true, minor: true },
    { name: 'Action', cell: (node) => <DrainButton node={node} onDrain={onDrain} /> },
  ];
}

function pipeColumns(choose: (chosen: Chosen) => void): Column<PipeView>[] {
  return [
    {
      name: 'Between',
      by: ({ ends }) => ends.join(' '),
      cell: ({ id, ends }) => (
        <button type="button" className="pick" onClick={() => choose({ kind: 'pipe', id })}>
          <span className="id">{ends[0]}</span> <span className="id">{ends[1]}</span>
        </button>
      ),
    },
    {
      name: 'State',
      by: ({ health }) => HEALTH[health],
      cell: ({ health, state }) => (
        <span className={`health ${health}`}>
          <span className="dash" aria-hidden="true" />
          {health === 'bad' && state === 'silent' ? 'silent' : HEALTH[health]}
        </span>
      ),
    },
    { name: 'Round trip', by: ({ rttMs }) => rttMs, cell: ({ rttMs }) => millis(rttMs), numeric: true },
    { name: 'Lost', by: (pipe) => pipe.loss, cell: (pipe) => loss(pipe.loss), numeric: true },
    { name: 'Rate', by: ({ bitsPerSecond }) => bitsPerSecond, cell: ({ bitsPerSecond }) => rate(bitsPerSecond), numeric: true },
    { name: 'Tracks', by: ({ tracks }) => tracks, cell: ({ tracks }) => count(tracks), numeric: true, minor: true },
  ];
}

function Legend() {
  return (
    <div className="legend" aria-hidden="true">
      {(['good', 'poor', 'bad', 'broken'] as const).map((health) => (
        <span key={health} className={`health ${health}`}>
          <span className="dash" />
          {{ good: 'pipe', poor: '1 % lost', bad: '5 % lost, or silent', broken: 'down' }[health]}
        </span>
      ))}
      <span>wider: more goes through it</span>
    </div>
  );
}

function idOf(chosen: Chosen, kind: 'node' | 'pipe'): string | undefined {
  return chosen?.kind === kind ? chosen.id : undefined;
}
