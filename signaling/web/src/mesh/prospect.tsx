// Where somebody who came into a room now would go, and why not elsewhere.

import { useCallback, useState } from 'react';

import type { Verdict } from './answers';
import type { Api } from './api';
import { Load } from './load';
import { usePolled } from './polled';
import { type Column, Table } from './table';
import { compare } from './view';
import { capital, count, reason, trouble } from './words';

const EVERY_MS = 3000;

interface Props {
  api: Api;
  room: string;
  regions: string[];
}

export function Prospects({ api, room, regions }: Props) {
  const [isOpen, setOpen] = useState(false);
  const [wanted, setWanted] = useState('');
  const region = regions.includes(wanted) ? wanted : '';
  return (
    <details className="prospect" onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>
        <h3>Where somebody would go now</h3>
      </summary>
      <label className="publisher">
        Who should be in
        <select value={region} onChange={(event) => setWanted(event.target.value)}>
          <option value="">this process’s region</option>
          {regions.map((name) => (
            <option key={name} value={name}>
              {name}
            </option>
          ))}
        </select>
      </label>
      {isOpen && <Prospect key={region} api={api} room={room} region={region} />}
    </details>
  );
}

const columns: Column<Verdict>[] = [
  { name: 'Node', by: ({ id }) => id, cell: ({ id }) => <span className="id">{id}</span> },
  { name: 'A new room', by: ({ refused }) => refused ?? '', cell: ({ refused, why }) => (refused === null ? 'Could open there' : capital(why ?? refused)) },
  { name: 'Load', by: ({ load }) => load?.ratio ?? null, cell: ({ load }) => <Load value={load?.ratio ?? null} />, numeric: true },
  { name: 'People', by: ({ load }) => load?.participants ?? null, cell: ({ load }) => count(load?.participants ?? null), numeric: true },
];

function Prospect({ api, room, region }: { api: Api; room: string; region: string }) {
  const ask = useCallback((stop: AbortSignal) => api.prospect(room, region, stop), [api, room, region]);
  const { answer, error } = usePolled(ask, EVERY_MS);
  if (error) return <p className="trouble">{trouble(error)}</p>;
  if (!answer) return <p className="quiet">Asking…</p>;
  const { node, reason: why } = answer.chosen;
  return (
    <>
      <p>
        {node === null ? (
          <>Nobody can be placed: {why}.</>
        ) : (
          <>
            To <span className="id">{node}</span>: {reason(why)}.
          </>
        )}
      </p>
      <Table caption="Whether each node would take a new room" columns={columns} rows={[...answer.nodes].sort((one, other) => compare(one.id, other.id))} id={({ id }) => id} empty="There is no node." />
    </>
  );
}
