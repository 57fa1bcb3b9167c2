// Which tile is where: who is large, who is on which page, and in which order. Pure.

/** `auto`: a grid, until somebody shows a screen. */
export type Layout = 'auto' | 'grid' | 'focus';

export type Source = 'camera' | 'screen';

/** A tile's name: somebody's camera, or their screen. */
export type TileId = `${Source}/${string}`;

export function tileId(source: Source, identity: string): TileId {
  return `${source}/${identity}`;
}

/** What a tile shows, and whose it is. Identities may have slashes of their own. */
export function ofTile(id: TileId): [Source, string] {
  const source = id.startsWith('screen/') ? 'screen' : 'camera';
  return [source, id.slice(source.length + 1)];
}

export interface Seats {
  /** In the order in which people sit. */
  people: readonly string[];
  /** Who shows a screen, the last one last. */
  screens: readonly string[];
  layout: Layout;
  pinned: TileId | undefined;
  /** Of the others who spoke last. */
  speaker: string | undefined;
  self: string;
}

export interface Arrangement {
  /** The large one; nobody is in a grid. */
  main: TileId | undefined;
  rest: TileId[];
}

export function arrange({ people, screens, layout, pinned, speaker, self }: Seats): Arrangement {
  const shown = screens.map((identity) => tileId('screen', identity));
  const faces = people.map((identity) => tileId('camera', identity));
  const all = [...shown, ...faces];
  const main = (): TileId | undefined => {
    if (pinned && all.includes(pinned)) return pinned;
    const screen = shown.at(-1);
    if (layout === 'grid' || (layout === 'auto' && !screen)) return undefined;
    if (screen) return screen;
    const heard = people.find((identity) => identity === speaker && identity !== self);
    const someone = heard ?? people.find((identity) => identity !== self) ?? people[0];
    return someone === undefined ? undefined : tileId('camera', someone);
  };
  const large = main();
  return { main: large, rest: all.filter((id) => id !== large) };
}

export interface Person {
  identity: string;
  /** Milliseconds since 1970; 0: never. */
  spokeAt: number;
  speaking: boolean;
}

/**
 * Who sits where, `first` of them on the first page. People keep their seats, and newcomers sit at the end;
 * only somebody who speaks and is not on the first page changes with whoever there was silent for longest.
 */
export function seat(before: readonly string[], present: readonly Person[], first: number, self: string): string[] {
  const here = new Map(present.map((person) => [person.identity, person]));
  const order = before.filter((identity) => here.has(identity));
  const seated = new Set(order);
  order.push(...present.filter(({ identity }) => !seated.has(identity)).map(({ identity }) => identity));
  for (const person of present) {
    const from = order.indexOf(person.identity);
    if (!person.speaking || from < first) continue;
    let to = -1;
    for (let place = 0; place < Math.min(first, order.length); place += 1) {
      const other = here.get(order[place] ?? '');
      if (!other || other.speaking || other.identity === self) continue;
      const quietest = here.get(order[to] ?? '');
      if (!quietest || other.spokeAt < quietest.spokeAt) to = place;
    }
    const other = order[to];
    if (other === undefined) continue;
    order[to] = person.identity;
    order[from] = other;
  }
  return order;
}

export interface Pages<T> {
  /** What is on the page that is shown. */
  shown: T[];
  /** Counted from 0. */
  page: number;
  pages: number;
  /** On every page but perhaps the last. */
  perPage: number;
}

/** Pages of about the same size; a page that is no more is the last one. */
export function paginate<T>(all: readonly T[], most: number, wanted: number): Pages<T> {
  const pages = Math.max(1, Math.ceil(all.length / Math.max(1, most)));
  const perPage = Math.max(1, Math.ceil(all.length / pages));
  const page = Math.min(Math.max(0, wanted), pages - 1);
  return { shown: all.slice(page * perPage, (page + 1) * perPage), page, pages, perPage };
}
