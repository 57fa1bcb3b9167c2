// A table whose columns can be sorted by, as all of this page's are.

import { useState } from 'react';

import { compare } from './view';

export interface Column<Row> {
  name: string;
  /** Sorted by this; without it the column is not. */
  by?: (row: Row) => string | number | null;
  cell: (row: Row) => React.ReactNode;
  /** Numbers stand below each other. */
  numeric?: boolean;
  /** Left out where there is little room. */
  minor?: boolean;
}

interface Props<Row> {
  caption: string;
  columns: Column<Row>[];
  rows: Row[];
  id: (row: Row) => string;
  chosen?: string | undefined;
  empty: string;
}

type Order = { column: string; down: boolean } | null;

/** More rows than anybody reads; there is a way to find others. */
const MOST_ROWS = 500;

export function Table<Row>({ caption, columns, rows, id, chosen, empty }: Props<Row>) {
  const [order, setOrder] = useState<Order>(null);
  const by = columns.find(({ name }) => name === order?.column)?.by;
  const sorted = by && order ? [...rows].sort((one, other) => direction(order) * compared(by(one), by(other))) : rows;
  if (rows.length === 0) return <p className="empty">{empty}</p>;
  return (
    <div className="scroll" role="region" aria-label={caption} tabIndex={0}>
      <table>
        <caption className="unseen">{caption}</caption>
        <thead>
          <tr>
            {columns.map((column) => (
              <th key={column.name} scope="col" className={classOf(column)} aria-sort={column.by && sortOf(column.name, order)}>
                {column.by ? (
                  <button type="button" onClick={() => setOrder(next(column, order))}>
                    {column.name}
                    <span className="arrow" aria-hidden="true">
                      {order?.column === column.name ? (order.down ? '↓' : '↑') : ''}
                    </span>
                  </button>
                ) : (
                  <span className={column.name === 'Action' ? 'unseen' : undefined}>{column.name}</span>
                )}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {sorted.slice(0, MOST_ROWS).map((row) => (
            <tr key={id(row)} className={id(row) === chosen ? 'chosen' : undefined}>
              {columns.map((column, index) =>
                index === 0 ? (
                  <th key={column.name} scope="row" className={classOf(column)}>
                    {column.cell(row)}
                  </th>
                ) : (
                  <td key={column.name} className={classOf(column)}>
                    {column.cell(row)}
                  </td>
                ),
              )}
            </tr>
          ))}
        </tbody>
      </table>
      {sorted.length > MOST_ROWS && (
        <p className="quiet more">
          {MOST_ROWS} of {sorted.length} are shown.
        </p>
      )}
    </div>
  );
}

/** Numbers are first sorted with the highest on top, then the other way, then as they were. */
function next<Row>(column: Column<Row>, order: Order): Order {
  const first = column.numeric ?? false;
  if (order?.column !== column.name) return { column: column.name, down: first };
  return order.down === first ? { column: column.name, down: !first } : null;
}

function direction({ down }: { down: boolean }): number {
  return down ? -1 : 1;
}

function compared(one: string | number | null, other: string | number | null): number {
  if (typeof one === 'string' && typeof other === 'string') return compare(one, other);
  return (typeof one === 'number' ? one : -1) - (typeof other === 'number' ? other : -1);
}

function sortOf(name: string, order: Order): 'ascending' | 'descending' | 'none' {
  if (order?.column !== name) return 'none';
  return order.down ? 'descending' : 'ascending';
}

function classOf<Row>({ numeric, minor }: Column<Row>): string | undefined {
  const classes = [numeric ? 'numeric' : '', minor ? 'minor' : ''].filter(Boolean);
  return classes.length > 0 ? classes.join(' ') : undefined;
}
