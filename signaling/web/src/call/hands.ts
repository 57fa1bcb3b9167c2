// Which hands have just been raised. Their times are what the others say they are, so they do not count here. Pure.

export interface Raised {
  /** Whose are up. */
  up: readonly string[];
  /** Those of them that are news, the first raised first. */
  fresh: readonly string[];
}

/** What becomes of it with whose are up now; the same if nothing has changed. */
export function follow(hands: Raised, up: readonly string[]): Raised {
  const raised = up.filter((identity) => !hands.up.includes(identity));
  if (raised.length === 0 && up.length === hands.up.length) return hands;
  return { up, fresh: [...hands.fresh.filter((identity) => up.includes(identity)), ...raised] };
}
