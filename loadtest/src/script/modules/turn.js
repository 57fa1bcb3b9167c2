// Notices a `sleep` or a `group` that nobody waits for.
//
// A sleep that blocked would stop every virtual user of its thread, so it answers something to wait
// for; so does a group whose function is async. `await` looks at that in a microtask, after the
// synchronous turn in which it was made: whoever calls us within the turn did not wait.

let begun = null;

/** `what`, such as `sleep`, was called from `where`, and has to be awaited. */
export function toAwait(what, where) {
  const record = { what, where };
  begun = record;
  Promise.resolve().then(() => {
    if (begun === record) begun = null;
  });
}

/** To be called first by everything that a script can call. */
export function called(what) {
  if (begun === null) return;
  const { what: first, where } = begun;
  begun = null;
  throw new Error(`${first}() was not awaited before ${what} at ${where}: write "await ${first}(...)"`);
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
