// Results as JSON: target/bench/latest.json, where every benchmark has a section of its own.

import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';

const FOLDER = fileURLToPath(new URL('../../../../target/bench/', import.meta.url));

/** Puts a benchmark's results in place of those of its last run; other sections stay. */
export async function write(section: string, results: object): Promise<void> {
  await mkdir(FOLDER, { recursive: true });
  const file = `${FOLDER}latest.json`;
  const sections = { ...(await former(file)), [section]: results };
  await writeFile(file, `${JSON.stringify(sections, undefined, 2)}\n`);
}

/** Of a file that is missing or broken nothing is kept. */
async function former(file: string): Promise<object> {
  try {
    return JSON.parse(await readFile(file, 'utf8')) as object;
  } catch {
    return {};
  }
}
