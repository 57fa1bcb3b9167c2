// How many columns show a number of tiles largest. Pure.

export interface Size {
  width: number;
  height: number;
}

const RATIO = 16 / 9;

/** Tiles may become a little narrower or taller than 16:9 before space is wasted. */
const RATIO_MIN = 1.1;

export interface Grid {
  columns: number;
  tile: Size;
}

/** The grid whose tiles have the largest area within `space`, `gap` pixels apart. */
export function fit(count: number, space: Size, gap: number): Grid {
  let best: Grid = { columns: 1, tile: { width: 0, height: 0 } };
  let bestArea = -1;
  for (let columns = 1; columns <= Math.max(count, 1); columns += 1) {
    const rows = Math.ceil(count / columns);
    const width = (space.width - gap * (columns - 1)) / columns;
    const height = (space.height - gap * (rows - 1)) / rows;
    const tile = shape(Math.max(width, 0), Math.max(height, 0));
    const area = tile.width * tile.height;
    if (area > bestArea) {
      best = { columns, tile };
      bestArea = area;
    }
  }
  return best;
}

function shape(width: number, height: number): Size {
  if (width > height * RATIO) return { width: Math.floor(height * RATIO), height: Math.floor(height) };
  if (width < height * RATIO_MIN) return { width: Math.floor(width), height: Math.floor(width / RATIO_MIN) };
  return { width: Math.floor(width), height: Math.floor(height) };
}
