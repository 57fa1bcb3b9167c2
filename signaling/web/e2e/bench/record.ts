// Keeps what a benchmark has printed that writes no JSON itself: its lines become its section.
//
// Usage: vite-node e2e/bench/record.ts <section> <log>

import { readFile } from 'node:fs/promises';

import { write } from './report';

const [section = '', log = ''] = process.argv.slice(-2);
const lines = (await readFile(log, 'utf8')).split('\n').filter((line) => line !== '');
await write(section, { printed: lines });
