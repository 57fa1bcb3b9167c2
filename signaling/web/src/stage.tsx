// Where the tiles are: pages of a grid, or a large one with pages of people beside it.

import { type CSSProperties, useEffect, useLayoutEffect, useRef, useState } from 'react';

import { type Arrangement, type TileId, ofTile, paginate } from './call/arrange';
import { useCall, useLive } from './call/context';
import type { Person } from './call/live';
import { type Size, along, capacity, fit } from './grid';
import { ChevronLeft, ChevronRight } from './icons';
import { Tile, type TileActions } from './tile';

const GAP = 10;
const PAGER = 46;
/** Of the people beside a large tile: see `.strip` in call.css. */
const STRIP = { wide: { width: 220, height: 138 }, narrow: { width: 116, height: 72 } };
const WIDE = 860;

interface Props extends TileActions {
  arrangement: Arrangement;
  perPage: number;
  page: number;
  onPage: (page: number) => void;
}

export function Stage({ arrangement, perPage, page: wanted, onPage, ...actions }: Props) {
  const { people } = useCall();
  const live = useLive();
  const [space, element] = useSize();
  const { main, rest } = arrangement;
  const room = main ? stripRoom(space) : gridRoom(rest.length, perPage, space);
  const { shown, page, pages, perPage: each } = paginate(rest, room, wanted);
  const byIdentity = new Map(people.map((person) => [person.identity, person]));
  const { audioOnly } = actions;

  // Before the size is known nothing is: then nothing changes.
  const measured = space.width > 0;
  const seen = [...(main ? [main] : []), ...shown].join('\n');
  useEffect(() => {
    if (measured) live.subscriptions.want(audioOnly ? [] : (seen.split('\n') as TileId[]));
  }, [live, seen, audioOnly, measured]);
  useEffect(() => {
    if (measured) live.seatFirst(each);
  }, [live, each, measured]);
  // A page that is no more is left for good.
  useEffect(() => {
    if (measured && page !== wanted) onPage(page);
  }, [measured, page, wanted, onPage]);

  const tile = (id: TileId) => {
    const [source, identity] = ofTile(id);
    const person = byIdentity.get(identity);
    return person && <Tile person={person} source={source} {...actions} />;
  };
  const list = shown.map((id) => <li key={id}>{tile(id)}</li>);
  const elsewhere = people.filter(({ identity, speaking }) => speaking && !seen.split('\n').includes(`camera/${identity}`));
  const pager = pages > 1 && <Pager page={page} pages={pages} speaking={elsewhere} onPage={onPage} />;

  if (main) {
    return (
      <div className="stage focus" ref={element}>
        <div className="main-tile">{tile(main)}</div>
        <div className="beside">
          <ul className="strip" aria-label="People">
            {list}
          </ul>
          {pager}
        </div>
      </div>
    );
  }
  const { columns, tile: size } = fit(each, { ...space, height: space.height - (pages > 1 ? PAGER : 0) }, GAP);
  const style = { '--columns': columns, '--tile-width': `${size.width}px`, '--tile-height': `${size.height}px` } as CSSProperties;
  return (
    <div className="stage" ref={element}>
      <ul className="people" style={style} aria-label="People">
        {list}
      </ul>
      {pager}
    </div>
  );
}

/** How many tiles a page of the grid takes; if there are several pages, beside the buttons between them. */
function gridRoom(count: number, perPage: number, space: Size): number {
  const room = capacity(Math.min(Math.max(count, 1), perPage), space, GAP);
  if (room >= count) return room;
  return capacity(perPage, { ...space, height: space.height - PAGER }, GAP);
}

function stripRoom(space: Size): number {
  return space.width + 36 >= WIDE
    ? along(space.height - PAGER, STRIP.wide.height, GAP)
    : along(space.width, STRIP.narrow.width, GAP);
}

interface PagerProps {
  page: number;
  pages: number;
  /** People who are not on this page. */
  speaking: Person[];
  onPage: (page: number) => void;
}

function Pager({ page, pages, speaking, onPage }: PagerProps) {
  return (
    <nav className="pager" aria-label="Pages of people">
      <button type="button" className="icon-button" disabled={page === 0} onClick={() => onPage(page - 1)} aria-label="Previous page" aria-keyshortcuts="PageUp">
        <ChevronLeft />
      </button>
      <p role="status">
        <span className="unseen">Page </span>
        {page + 1} / {pages}
        {speaking[0] && <span className="elsewhere"> · {speaking[0].name} speaks</span>}
      </p>
      <button type="button" className="icon-button" disabled={page === pages - 1} onClick={() => onPage(page + 1)} aria-label="Next page" aria-keyshortcuts="PageDown">
        <ChevronRight />
      </button>
    </nav>
  );
}

/** Known before anything is drawn, so that nothing jumps. */
function useSize() {
  const [size, setSize] = useState<Size>({ width: 0, height: 0 });
  const [element, setElement] = useState<HTMLDivElement | null>(null);
  const known = useRef<Size>({ width: 0, height: 0 });
  useLayoutEffect(() => {
    if (!element) return;
    const look = () => {
      const now = { width: element.clientWidth, height: element.clientHeight };
      if (now.width === known.current.width && now.height === known.current.height) return;
      known.current = now;
      setSize(now);
    };
    look();
    const observer = new ResizeObserver(look);
    observer.observe(element);
    return () => observer.disconnect();
  }, [element]);
  return [size, setElement] as const;
}
