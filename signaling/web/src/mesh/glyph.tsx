// A node's state as a sign: told apart by its form, and by its colour besides.

import type { NodeState } from './view';

const FORMS: Record<NodeState, string> = {
  serving: 'M-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0 -9 0z',
  full: 'M-4.2 -4.2h8.4v8.4h-8.4z',
  draining: 'M-5 -3.8h10l-5 8.4z',
  trying: 'M0 -5.2l5.2 5.2l-5.2 5.2l-5.2 -5.2z',
  down: 'M-4 -4L4 4M4 -4L-4 4',
  gone: 'M-4 -4L4 4M4 -4L-4 4',
};

export function Glyph({ state, x, y }: { state: NodeState; x: number; y: number }) {
  return <path className={`glyph ${state}`} d={FORMS[state]} transform={`translate(${x} ${y})`} />;
}

/** The same in text. */
export function Sign({ state }: { state: NodeState }) {
  return (
    <svg className="sign" viewBox="-7 -7 14 14" aria-hidden="true" focusable="false">
      <Glyph state={state} x={0} y={0} />
    </svg>
  );
}
