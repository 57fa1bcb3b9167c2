// How many columns show a number of tiles largest, and how many tiles a space has room for. Pure.

export interface Size {
  width: number;
  height: number;
}

const RATIO = 16 / 9;

/** Tiles may become a little narrower or taller than 16:9 before space is wasted. */
const RATIO_MIN = 1.1;

/** Smaller, faces are no faces any more, and names have no room. */
const SMALLEST: Size = { width: 148, height: 84 };

export interface Grid {
  columns: number;
  tile: Size;
}

/**
 * The grid whose tiles are largest within `space`, `gap` pixels apart. Narrow ones count for less: pictures lose
 * their sides in them.
 */
export function fit(count: number, space: Size, gap: number): Grid {
  let best: Grid = { columns: 1, tile: { width: 0, height: 0 } };
  let bestScore = -1;
  for (let columns = 1; columns <= Math.max(count, 1); columns += 1) {
    const rows = Math.ceil(count / columns);
    const width = (space.width - gap * (columns - 1)) / columns;
    const height = (space.height - gap * (rows - 1)) / rows;
    const tile = shape(Math.max(width, 0), Math.max(height, 0));
    const kept = tile.height > 0 ? Math.sqrt(Math.min(1, tile.width / tile.height / RATIO)) : 0;
    const score = tile.width * tile.height * kept;
    if (score > bestScore) {
      best = { columns, tile };
      bestScore = score;
    }
  }
  return best;
}

/** The largest number of tiles, `most` at most, that are still large enough; at least one. */
export function capacity(most: number, space: Size, gap: number): number {
  for (let count = most; count > 1; count -= 1) {
    const { tile } = fit(count, space, gap);
    if (tile.width >= SMALLEST.width && tile.height >= SMALLEST.height) return count;
  }
  return 1;
}

/** As many things of one length as fit into another length, at least one. */
export function along(length: number, one: number, gap: number): number {
  return Math.max(1, Math.floor((length + gap) / (one + gap)));
}

function shape(width: number, height: number): Size {
  if (width > height * RATIO) return { width: Math.floor(height * RATIO), height: Math.floor(height) };
  if (width < height * RATIO_MIN) return { width: Math.floor(width), height: Math.floor(width / RATIO_MIN) };
  return { width: Math.floor(width), height: Math.floor(height) };
}
