// Notices a `sleep` that nobody waits for.
//
// A sleep that blocked would stop every virtual user of its thread, so it answers something to wait
// for. `await` looks at that in a microtask, after the synchronous turn in which it was made: whoever
// calls us within the turn did not wait.

let sleeping = null;

/** A sleep began, called from `where`. */
export function slept(where) {
  const record = { where };
  sleeping = record;
  Promise.resolve().then(() => {
    if (sleeping === record) sleeping = null;
  });
}

/** To be called first by everything that a script can call. */
export function called(what) {
  if (sleeping === null) return;
  const { where } = sleeping;
  sleeping = null;
  throw new Error(`sleep() was not awaited before ${what} at ${where}: write "await sleep(...)"`);
}

/** What the host was asked for; if it fails, the error says where. */
export async function asked(what, answer) {
  const where = whereabouts();
  try {
    return await answer;
  } catch (error) {
    throw new Error(`${what} at ${where}: ${error?.message ?? error}`);
  }
}

/** Where the script is just now: `script.js:12`. */
export function whereabouts() {
  const lines = (new Error().stack ?? '').split('\n');
  for (const line of lines) {
    const place = /\(?([^()\s]+):(\d+):\d+\)?$/.exec(line);
    if (place && !/^(k6|sfu|pipemesh:)/.test(place[1])) return `${place[1]}:${place[2]}`;
  }
  return 'an unknown place';
}
