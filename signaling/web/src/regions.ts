// Which regions there are, and how far they are from this browser.

/** A region, and where its signaling is. */
interface Region {
  region: string;
  url: string;
}

/** Milliseconds there and back, by region. */
export type RoundTrips = ReadonlyMap<string, number>;

/** The listed ones are the best already; more would only make the wait longer. */
const MOST_REGIONS = 8;

/** The first one opens the connection, and does not count; of the others the shortest does. */
const PROBES = 4;

const LIMIT_MS = 2000;

/** What is told: of a region farther away nobody would choose it. */
const TOLD = 3;

/** What signaling reads at most. */
const LONGEST_MS = 10_000;

/** Measures all regions, if there are several. It never fails: what could not be measured is not in it. */
export async function measureRegions(page: string): Promise<RoundTrips> {
  const regions = (await listRegions(page)).slice(0, MOST_REGIONS);
  if (regions.length < 2) return new Map();
  const measured = await Promise.all(
    regions.map(async ({ region, url }) => [region, await roundTrip(url)] as const),
  );
  return new Map(measured.filter((pair): pair is readonly [string, number] => pair[1] !== undefined));
}

/** What has been measured by now, or a moment later: nobody waits for a region that does not answer. */
export function measuredWithin(measuring: Promise<RoundTrips>, limitMs: number): Promise<RoundTrips> {
  const late = new Promise<RoundTrips>((resolve) => setTimeout(() => resolve(new Map()), limitMs));
  return Promise.race([measuring, late]);
}

/** The server's address with what it is to know of where this browser is. SDKs keep its parameters. */
export function withWhereabouts(server: string, region: string, roundTrips: RoundTrips): string {
  const url = new URL(server);
  if (region) url.searchParams.set('region', region);
  const nearest = [...roundTrips].sort(([, one], [, other]) => one - other).slice(0, TOLD);
  const told = nearest.map(([name, ms]) => `${name}:${Math.min(Math.round(ms), LONGEST_MS)}`);
  if (told.length > 0) url.searchParams.set('regions', told.join(','));
  return url.toString();
}

async function listRegions(page: string): Promise<Region[]> {
  try {
    const answer = await fetch(new URL('/settings/regions', page), { signal: AbortSignal.timeout(LIMIT_MS) });
    if (!answer.ok) return [];
    const body = (await answer.json()) as { regions?: Partial<Region>[] };
    return (body.regions ?? []).filter((it): it is Region => Boolean(it.region && it.url));
  } catch {
    return [];
  }
}

async function roundTrip(server: string): Promise<number | undefined> {
  let shortest: number | undefined;
  try {
    const url = new URL(`${server.replace(/^ws/, 'http')}/rtt`);
    const signal = AbortSignal.timeout(LIMIT_MS);
    for (let probe = 0; probe < PROBES; probe++) {
      const begin = performance.now();
      const answer = await fetch(url, { cache: 'no-store', credentials: 'omit', signal });
      if (!answer.ok) return undefined;
      const took = performance.now() - begin;
      if (probe > 0) shortest = Math.min(took, shortest ?? took);
    }
  } catch {
    // What was measured before it stopped to answer would make it look good.
    return undefined;
  }
  return shortest;
}
