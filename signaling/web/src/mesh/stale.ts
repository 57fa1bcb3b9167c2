// Whether what is shown is the present. Pure.

import type { ApiError } from './api';

/** What is older is not the present. */
const STALE_MS = 10_000;

interface Answered {
  /** When the last answer came; 0: there was none. */
  at: number;
  /** Since then. */
  error: ApiError | undefined;
}

export interface Stale extends Answered {
  of: 'nodes' | 'pipes';
}

/** Of nodes and pipes what is not the present, nodes first. Nothing is asked while nobody looks, so that counts for none of it. */
export function staleOf(nodes: Answered, pipes: Answered, shownSince: number, now: number): Stale | undefined {
  const isStale = ({ at, error }: Answered) => error !== undefined || now - Math.max(at, shownSince) > STALE_MS;
  if (isStale(nodes)) return { of: 'nodes', at: Math.min(nodes.at, pipes.at || nodes.at), error: nodes.error };
  if (isStale({ ...pipes, at: pipes.at || nodes.at })) return { of: 'pipes', at: pipes.at, error: pipes.error };
  return undefined;
}
