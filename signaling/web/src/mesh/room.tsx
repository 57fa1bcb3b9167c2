// One room: where its tracks get to, who is in it and why they are where they are, and where somebody would go.

import { useCallback, useMemo, useState } from 'react';

import type { MemberAnswer, TrackTree } from './answers';
import { type Api, ApiError } from './api';
import { usePolled } from './polled';
import { Prospects } from './prospect';
import { useWidth } from './size';
import { type Column, Table } from './table';
import { type Stop, type Way, allStops, arrangeTree, waysOf } from './tree';
import { type NodeView, compare } from './view';
import { UNKNOWN, count, loss, many, millis, placed, shortened, trouble } from './words';

const EVERY_MS = 2000;
/** Pictures at a time; the others can be picked. */
const SHOWN = 6;

interface Props {
  api: Api;
  name: string;
  nodes: NodeView[];
}

export function RoomView({ api, name, nodes }: Props) {
  const askRoom = useCallback((stop: AbortSignal) => api.room(name, stop), [api, name]);
  const askTree = useCallback((stop: AbortSignal) => api.tree(name, stop), [api, name]);
  const room = usePolled(askRoom, EVERY_MS);
  const tree = usePolled(askTree, EVERY_MS);
  const regions = [...new Set(nodes.filter(({ state }) => state !== 'gone').map(({ region }) => region))];
  const isGone = room.error instanceof ApiError && room.error.failure === 'missing';
  const answer = isGone ? undefined : room.answer;
  return (
    <>
      <header className="room-head">
        <h2>{name}</h2>
        {answer && (
          <p className="quiet">
            {many(answer.participants, 'person', 'people')} · at home on {answer.homes.map((home) => <span key={home} className="id chip">{home}</span>)}
          </p>
        )}
      </header>
      {room.error && <p className="trouble">{isGone ? 'There is no such room, or it has ended.' : trouble(room.error)}</p>}
      {answer && (
        <>
          <section aria-labelledby="ways">
            <h3 id="ways">From publishers to watchers</h3>
            {tree.error && <p className="trouble">{trouble(tree.error)}</p>}
            {tree.answer && <Ways tracks={tree.answer.tracks} />}
            {tree.answer?.mute.map(({ node, why }) => (
              <p key={node} className="quiet note">
                <span className="id">{node}</span> says nothing of its tracks: {why}.
              </p>
            ))}
          </section>
          <section aria-labelledby="people">
            <h3 id="people">Who is where, and why</h3>
            <Table caption="People of the room" columns={memberColumns} rows={sorted(answer.members)} id={({ identity }) => identity} empty="Nobody is in the room." />
          </section>
        </>
      )}
      <Prospects api={api} room={name} regions={regions} />
    </>
  );
}

const memberColumns: Column<MemberAnswer>[] = [
  { name: 'Person', by: ({ identity }) => identity, cell: ({ identity }) => <span className="who">{identity}</span> },
  { name: 'Node', by: ({ node }) => node, cell: ({ node }) => <span className="id">{node}</span> },
  { name: 'Why there', cell: (member) => <span className="why">{placed(member.placed)}</span> },
  { name: 'Is', by: ({ presence }) => presence, cell: ({ presence }) => presence, minor: true },
  { name: 'Tracks', by: ({ tracks }) => tracks.length, cell: ({ tracks }) => count(tracks.length), numeric: true, minor: true },
  { name: 'Served by', by: ({ process }) => process, cell: ({ process }) => <span className="id">{process ?? UNKNOWN}</span>, minor: true },
];

function sorted(members: MemberAnswer[]): MemberAnswer[] {
  return [...members].sort((one, other) => compare(one.identity, other.identity));
}

function Ways({ tracks }: { tracks: TrackTree[] }) {
  const ways = useMemo(() => waysOf(tracks), [tracks]);
  const [wanted, setWanted] = useState('');
  const publishers = [...new Set(ways.map(({ publisher }) => publisher))];
  const of = publishers.includes(wanted) ? wanted : '';
  const shown = ways.filter(({ publisher }) => of === '' || publisher === of).slice(0, SHOWN);
  if (ways.length === 0) return <p className="empty">Nobody publishes anything.</p>;
  return (
    <>
      {publishers.length > 1 && (
        <label className="publisher">
          Publisher
          <select value={of} onChange={(event) => setWanted(event.target.value)}>
            <option value="">{ways.length > SHOWN ? `The first of ${publishers.length}` : `Everybody (${publishers.length})`}</option>
            {publishers.map((name) => (
              <option key={name} value={name}>
                {name}
              </option>
            ))}
          </select>
        </label>
      )}
      <ul className="ways-list">
        {shown.map((way) => (
          <li key={way.id}>
            <WayPicture way={way} />
          </li>
        ))}
      </ul>
    </>
  );
}

function WayPicture({ way }: { way: Way }) {
  const { width, measure } = useWidth();
  const layout = useMemo(() => (width > 0 ? arrangeTree(way.root, width) : null), [way, width]);
  const names = way.tracks.map(({ source, kind, name }) => name || (source === 'unknown' ? kind : source.replaceAll('_', ' ')));
  const watchers = Math.max(...way.tracks.map((track) => track.watchers));
  const stops = allStops(way.root);
  const list = <Branches stop={way.root} />;
  return (
    <figure ref={measure} className="way">
      <figcaption>
        <strong>{way.publisher}</strong> <span className="quiet">{names.join(', ')}</span>
        <span className="way-sum">
          {many(stops.length, 'node', 'nodes')}, {watchers} watching
        </span>
      </figcaption>
      {layout ? (
        <>
          <svg
            className="tree"
            width={layout.width}
            height={layout.height}
            viewBox={`0 0 ${layout.width} ${layout.height}`}
            role="img"
            aria-label={`From ${way.root.node} to ${stops.slice(1).map(({ node }) => node).join(', ') || 'no other node'}; the list says more`}
          >
            {layout.stops.map(({ stop, leg }) => leg && <path key={stop.node} className={`leg ${stop.pipe ?? 'unknown'}`} d={leg.path} />)}
            {layout.stops.map(({ stop, x, y, width: wide, height, leg }) => (
              <g key={stop.node} className={`stop ${stop.role}`}>
                <rect x={x + 0.5} y={y + 0.5} width={wide - 1} height={height - 1} rx="9" />
                <text className="node-name" x={x + 11} y={y + 19}>
                  {shortened(stop.node, Math.floor((wide - 22) / 7.3))}
                </text>
                <text className="node-facts" x={x + 11} y={y + 36}>
                  {shortened(stop.region === null ? stop.role : `${stop.role} · ${stop.region}`, Math.floor((wide - 26) / 6.4) - watchersOf(stop).length)}
                </text>
                <text className={stop.watchers ? 'watching' : 'node-facts'} x={x + wide - 11} y={y + 36} textAnchor="end">
                  {watchersOf(stop)}
                </text>
                {leg && (
                  <text className="leg-number" x={leg.x} y={leg.y - 5} textAnchor="middle">
                    {millis(stop.rttMs)}
                  </text>
                )}
              </g>
            ))}
          </svg>
          <details>
            <summary>As a list</summary>
            {list}
          </details>
        </>
      ) : (
        list
      )}
      {way.detached.length > 0 && (
        <p className="quiet note">
          About to change their way: <span className="id">{way.detached.join(', ')}</span>
        </p>
      )}
    </figure>
  );
}

function watchersOf({ watchers }: Stop): string {
  if (watchers === null) return 'unknown';
  return watchers > 0 ? `${watchers} watching` : '';
}

function Branches({ stop }: { stop: Stop }) {
  return (
    <ul className="branches">
      <Branch stop={stop} isRoot />
    </ul>
  );
}

function Branch({ stop, isRoot = false }: { stop: Stop; isRoot?: boolean }) {
  const watchers = stop.watchers === null ? 'watchers unknown' : `${stop.watchers} watching`;
  return (
    <li>
      <span className="id">{stop.node}</span>{' '}
      <small>
        {stop.region ?? 'region unknown'}, {stop.role}, {watchers}
        {!isRoot && `; pipe ${stop.pipe ?? 'unknown'}, ${millis(stop.rttMs)}, ${loss(stop.loss)} lost`}
      </small>
      {stop.stops.length > 0 && (
        <ul>
          {stop.stops.map((next) => (
            <Branch key={next.node} stop={next} />
          ))}
        </ul>
      )}
    </li>
  );
}
