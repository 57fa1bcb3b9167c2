// The mesh in a few numbers.

import { type NodeView, type PipeView, totals } from './view';
import { STATES, count, many, rate } from './words';

export function Bar({ nodes, pipes }: { nodes: NodeView[]; pipes: PipeView[] }) {
  const all = totals(nodes, pipes);
  const others = all.others.map(([state, number]) => (
    <span key={state} className={`tag ${state}`}>
      {number} {STATES[state]}
    </span>
  ));
  return (
    <section aria-label="The mesh in numbers">
      <dl className="facts">
        <div>
          <dt>Nodes</dt>
          <dd>
            {count(all.nodes)} <small>in {many(all.regions, 'region', 'regions')}</small> {others}
          </dd>
        </div>
        <div>
          <dt>People</dt>
          <dd>{count(all.people)}</dd>
        </div>
        <div>
          <dt>Pipes</dt>
          <dd>
            {count(all.pipes)} {all.ailing > 0 && <span className="tag poor">{all.ailing} not well</span>}
          </dd>
        </div>
        <div>
          <dt>Between nodes</dt>
          <dd>{rate(all.bitsPerSecond)}</dd>
        </div>
      </dl>
    </section>
  );
}
