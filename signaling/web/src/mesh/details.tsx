// All that is known of one node or one pipe.

import { Close } from '../icons';
import { DrainButton } from './drain';
import { Sign } from './glyph';
import type { Chosen } from './picture';
import type { NodeView, PipeView } from './view';
import { HEALTH, STATES, UNKNOWN, count, load, loss, millis, rate } from './words';

interface Props {
  chosen: NonNullable<Chosen>;
  nodes: NodeView[];
  pipes: PipeView[];
  onDrain: (node: string, drains: boolean) => void;
  onChoose: (chosen: Chosen) => void;
}

export function Details({ chosen, nodes, pipes, onDrain, onChoose }: Props) {
  const node = chosen.kind === 'node' ? nodes.find(({ id }) => id === chosen.id) : undefined;
  const pipe = chosen.kind === 'pipe' ? pipes.find(({ id }) => id === chosen.id) : undefined;
  const title = node?.id ?? pipe?.ends.join(' – ') ?? chosen.id;
  return (
    <section className="details" aria-labelledby="details">
      <header>
        <h2 id="details" className="id">
          {title}
        </h2>
        <button type="button" className="icon-button" aria-label={`Close ${title}`} onClick={() => onChoose(null)}>
          <Close />
        </button>
      </header>
      {node && <OfNode node={node} pipes={pipes.filter(({ ends }) => ends.includes(node.id))} onDrain={onDrain} onChoose={onChoose} />}
      {pipe && <OfPipe pipe={pipe} onChoose={onChoose} />}
      {!node && !pipe && <p className="quiet">It is not there any more.</p>}
    </section>
  );
}

interface OfNodeProps {
  node: NodeView;
  pipes: PipeView[];
  onDrain: (node: string, drains: boolean) => void;
  onChoose: (chosen: Chosen) => void;
}

function OfNode({ node, pipes, onDrain, onChoose }: OfNodeProps) {
  return (
    <>
      <div className="line">
        <span className={`state ${node.state}`}>
          <Sign state={node.state} />
          {STATES[node.state]}
        </span>
        <span className="quiet">in {node.region}</span>
        <DrainButton node={node} onDrain={onDrain} strong />
      </div>
      <dl className="numbers">
        <Fact name="Load" value={load(node.load)} />
        <Fact name="People" value={count(node.people)} />
        <Fact name="Rooms" value={count(node.rooms)} />
        <Fact name="Tracks" value={count(node.tracks)} />
        <Fact name="Subscriptions" value={count(node.subscriptions)} />
        <Fact name="Sends" value={rate(node.bitsPerSecond)} />
        <Fact name="Weight" value={count(node.weight)} />
        <Fact name="Version" value={node.release ?? UNKNOWN} />
        <Fact name="Address" value={node.address} long />
      </dl>
      {pipes.length > 0 && (
        <ul className="links" aria-label={`Pipes of ${node.id}`}>
          {pipes.map((pipe) => (
            <li key={pipe.id}>
              <button type="button" className="pick" onClick={() => onChoose({ kind: 'pipe', id: pipe.id })}>
                <span className={`health ${pipe.health}`}>
                  <span className="dash" aria-hidden="true" />
                </span>
                <span className="id">{pipe.ends[0] === node.id ? pipe.ends[1] : pipe.ends[0]}</span>
                <small>
                  {millis(pipe.rttMs)} · {rate(pipe.bitsPerSecond)}
                </small>
              </button>
            </li>
          ))}
        </ul>
      )}
    </>
  );
}

function OfPipe({ pipe, onChoose }: { pipe: PipeView; onChoose: (chosen: Chosen) => void }) {
  const [one, other] = pipe.ends;
  return (
    <>
      <div className="line">
        <span className={`health ${pipe.health}`}>
          <span className="dash" aria-hidden="true" />
          {pipe.state === 'up' ? HEALTH[pipe.health] : pipe.state}
        </span>
        <span className="quiet">round trip {millis(pipe.rttMs)}</span>
      </div>
      <table className="ways">
        <caption className="unseen">Each way</caption>
        <thead>
          <tr>
            <th scope="col">Towards</th>
            <th scope="col" className="numeric">
              One way
            </th>
            <th scope="col" className="numeric">
              Lost
            </th>
            <th scope="col" className="numeric">
              Rate
            </th>
            <th scope="col" className="numeric">
              Tracks
            </th>
          </tr>
        </thead>
        <tbody>
          {([[other, pipe.there], [one, pipe.back]] as const).map(([towards, way]) => (
            <tr key={towards}>
              <th scope="row">
                <button type="button" className="pick" onClick={() => onChoose({ kind: 'node', id: towards })}>
                  <span className="id">{towards}</span>
                </button>
              </th>
              <td className="numeric">{millis(way.one_way_ms)}</td>
              <td className="numeric">{loss(way.loss)}</td>
              <td className="numeric">{rate(way.bits_per_second)}</td>
              <td className="numeric">{count(way.tracks)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </>
  );
}

function Fact({ name, value, long = false }: { name: string; value: string; long?: boolean }) {
  return (
    <div className={long ? 'long' : undefined}>
      <dt>{name}</dt>
      <dd>{value}</dd>
    </div>
  );
}
