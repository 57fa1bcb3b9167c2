// What this signaling process has lately chosen for whom, and why.

import { useCallback } from 'react';

import type { Api } from './api';
import type { Choice } from './answers';
import { useNow, usePolled } from './polled';
import { type Column, Table } from './table';
import { capital, reason, seconds, trouble } from './words';

const EVERY_MS = 3000;

export function Placements({ api }: { api: Api }) {
  const ask = useCallback((stop: AbortSignal) => api.placements(stop), [api]);
  const { answer, error } = usePolled(ask, EVERY_MS);
  const now = useNow();
  const columns: Column<Choice>[] = [
    { name: 'Room', by: ({ room }) => room, cell: ({ room }) => room },
    { name: 'Wanted', by: ({ region }) => region, cell: ({ region }) => region, minor: true },
    { name: 'Node', by: ({ chosen }) => chosen.node ?? '', cell: ({ chosen }) => <span className="id">{chosen.node ?? 'none'}</span> },
    { name: 'Why', cell: ({ chosen }) => <span className="why">{capital(reason(chosen.reason))}</span> },
    { name: 'Ago', by: ({ at }) => at, cell: ({ at }) => seconds(now - at * 1000), numeric: true },
  ];
  return (
    <>
      <p className="quiet note">Choices of this signaling process; others have made their own. Why a certain person is where they are is told with their room.</p>
      {error && <p className="trouble">{trouble(error)}</p>}
      {answer && <Table caption="Placements" columns={columns} rows={answer} id={({ at, room }) => `${at} ${room}`} empty="It has placed nobody yet." />}
    </>
  );
}
