// What was measured: printed, and kept where `make chaos` asks for it.

import { appendFileSync } from 'node:fs';

import { quantile } from './arrivals';

/** A file that gets one JSON object a line: {"name", "value", "unit"}. */
const FILE = process.env.PIPEMESH_CHAOS_FIGURES;

export function figure(name: string, value: number, unit: 'ms' | 'count'): void {
  const rounded = Math.round(value);
  process.stdout.write(`    ${name} ${rounded} ${unit}\n`);
  if (FILE) appendFileSync(FILE, `${JSON.stringify({ name, value: rounded, unit })}\n`);
}

/** What nineteen of twenty stay within, and the most. Answers the former. */
export function spread(name: string, times: number[]): number {
  const p95 = quantile(times, 0.95);
  figure(`${name}_p95`, p95, 'ms');
  figure(`${name}_max`, Math.max(...times), 'ms');
  return p95;
}
