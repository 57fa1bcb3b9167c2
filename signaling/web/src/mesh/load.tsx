// How loaded a node is, as a bar and a number.

import { load } from './words';

export function Load({ value }: { value: number | null }) {
  return (
    <span className="load">
      <svg className="load-bar" viewBox="0 0 40 6" preserveAspectRatio="none" aria-hidden="true" focusable="false">
        <rect className="meter-back" width="40" height="6" rx="3" />
        {value !== null && value > 0 && <rect className={`meter ${loadClass(value)}`} width={Math.max(3, Math.min(1, value) * 40)} height="6" rx="3" />}
      </svg>
      {load(value)}
    </span>
  );
}

/** From the first on nobody new is sent there if it can be helped, from the second on nobody at all. */
export function loadClass(load: number): string {
  if (load >= 0.95) return 'over';
  return load >= 0.6 ? 'busy' : 'calm';
}
