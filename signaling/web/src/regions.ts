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

/** Signaling takes round trips for equal that differ by less. */
const SAME_MS = 10;

/** What is told: of a region farther away nobody would choose it. */
const TOLD = 3;

/** What signaling reads at most. */
const LONGEST_MS = 10_000;

/** Regions to choose from, the best for us first, as far as the server knows; and how far they are. */
export interface Survey {
  regions: string[];
  roundTrips: RoundTrips;
}

/** Measures all regions, if there are several. It never fails: what could not be measured is not in it. */
export async function surveyRegions(page: string): Promise<Survey> {
  const regions = (await listRegions(page)).slice(0, MOST_REGIONS);
  const names = regions.map(({ region }) => region);
  if (regions.length < 2) return { regions: names, roundTrips: new Map() };
  const measured = await Promise.all(
    regions.map(async ({ region, url }) => [region, await roundTrip(url)] as const),
  );
  const known = measured.filter((pair): pair is readonly [string, number] => pair[1] !== undefined);
  return { regions: names, roundTrips: new Map(known) };
}

/**
 * Where signaling will most likely put us if we do not choose: of those that are about as near as the nearest
 * one, the one that it lists first.
 */
export function nearestOf({ regions, roundTrips }: Survey): string | undefined {
  const shortest = Math.min(...roundTrips.values());
  return regions.find((region) => (roundTrips.get(region) ?? Infinity) < shortest + SAME_MS) ?? regions[0];
}

/** As a list to choose from says it, the nearest first; those that were not measured come last. */
export function inWords({ regions, roundTrips }: Survey): { region: string; words: string }[] {
  const trip = (region: string) => roundTrips.get(region) ?? Infinity;
  const sorted = regions.toSorted((one, other) => trip(one) - trip(other) || 0);
  return sorted.map((region) => {
    const ms = roundTrips.get(region);
    return { region, words: ms === undefined ? region : `${region}, ${Math.max(1, Math.round(ms))} ms` };
  });
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
