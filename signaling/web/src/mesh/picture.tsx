// The picture: regions, nodes and the pipes between them. Where everything is, `layout` says.

import { useMemo, useRef, useState } from 'react';

import { Glyph } from './glyph';
import { type Density, type Layout, type PlacedNode, type PlacedPipe, arrange } from './layout';
import { loadClass } from './load';
import { useWidth } from './size';
import type { NodeView, PipeView } from './view';
import { HEALTH, STATES, count, load, loss, many, millis, rate, shortened } from './words';

/** What somebody has chosen to see more of. */
export type Chosen = { kind: 'node' | 'pipe'; id: string } | null;

interface Props {
  nodes: NodeView[];
  pipes: PipeView[];
  chosen: Chosen;
  onChoose: (chosen: Chosen) => void;
}

/** Of the font that ids are written in. */
const LETTER = 7.3;
const SMALL_LETTER = 6.3;

export function Picture({ nodes, pipes, chosen, onChoose }: Props) {
  const { width, measure } = useWidth();
  const [looked, setLooked] = useState<Chosen>(null);
  const layout = useMemo(() => arrange(nodes, pipes, width), [nodes, pipes, width]);
  const nodesById = useMemo(() => new Map(nodes.map((node) => [node.id, node])), [nodes]);
  const pipesById = useMemo(() => new Map(pipes.map((pipe) => [pipe.id, pipe])), [pipes]);
  const seen = looked ?? chosen;
  const near = useMemo(() => neighbours(seen, layout), [seen, layout]);
  const [nodeStop, pipeStop] = [stopOf('node', chosen, looked, layout.nodes), stopOf('pipe', chosen, looked, layout.pipes)];
  const group = useRef<SVGSVGElement>(null);
  const focus = (kind: 'node' | 'pipe', id: string | undefined) => {
    if (id === undefined) return;
    const elements = [...(group.current?.querySelectorAll<SVGGElement>(`[data-${kind}]`) ?? [])];
    elements.find((element) => element.getAttribute(`data-${kind}`) === id)?.focus();
  };
  const pressed = (event: React.KeyboardEvent, kind: 'node' | 'pipe', id: string) => {
    if (event.key === 'Enter' || event.key === ' ') {
      onChoose({ kind, id });
    } else if (event.key === 'Escape') {
      onChoose(null);
    } else {
      const next = kind === 'node' ? nextNode(layout, id, event.key) : nextOf(layout.pipes, id, event.key);
      if (next === undefined) return;
      focus(kind, next);
    }
    event.preventDefault();
  };
  /** What a node and a pipe have in common: they can be pointed at, focused and chosen. */
  const handle = (kind: 'node' | 'pipe', id: string, stop: string | undefined, label: string) => ({
    [`data-${kind}`]: id,
    role: 'button',
    tabIndex: id === stop ? 0 : -1,
    'aria-label': label,
    'aria-pressed': chosen?.kind === kind && chosen.id === id,
    onClick: () => onChoose({ kind, id }),
    onKeyDown: (event: React.KeyboardEvent) => pressed(event, kind, id),
    onFocus: () => setLooked({ kind, id }),
    onBlur: () => setLooked(null),
    onPointerEnter: (event: React.PointerEvent) => event.pointerType === 'mouse' && setLooked({ kind, id }),
    onPointerLeave: () => setLooked(null),
  });
  return (
    <div className="picture" ref={measure}>
      {width > 0 && (
        <svg
          ref={group}
          className={seen && near ? `map ${layout.density} looked` : `map ${layout.density}`}
          width={layout.width}
          height={layout.height}
          viewBox={`0 0 ${layout.width} ${layout.height}`}
          role="group"
          aria-label="Nodes by region, and pipes between them. Arrow keys go from one to the next."
        >
          {layout.regions.map((region) => (
            <g key={`${region.name} ${region.side}`} aria-hidden="true">
              <rect className="region" x={region.x + 0.5} y={region.y + 0.5} width={region.width - 1} height={region.height - 1} rx="12" />
              <text className="region-name" x={region.x + 14} y={region.y + 20}>
                {shortened(region.name, Math.floor((region.width - (region.continued ? 90 : 28)) / 7.2))}
                {region.continued && <tspan className="aside"> continued</tspan>}
              </text>
            </g>
          ))}
          <g role="group" aria-label="Pipes">
            {layout.pipes.map((placed) => {
              const pipe = pipesById.get(placed.id);
              if (!pipe) return null;
              const shown = near?.pipes.has(placed.id) ?? false;
              return (
                <g key={placed.id} className={shown ? `pipe ${pipe.health} near` : `pipe ${pipe.health}`} {...handle('pipe', placed.id, pipeStop, pipeLabel(pipe))}>
                  <path className="pipe-reach" d={placed.path} />
                  <path className="pipe-ring" d={placed.path} strokeWidth={placed.width + 6} />
                  <path className="pipe-line" d={placed.path} strokeWidth={placed.width} />
                </g>
              );
            })}
          </g>
          <g className="pipe-labels" aria-hidden="true">
            {layout.pipes.map(({ id, label }) => {
              const pipe = pipesById.get(id);
              return pipe && label && <PipeLabel key={id} pipe={pipe} x={label.x} y={label.y} />;
            })}
          </g>
          <g aria-hidden="true">
            {layout.nodes.map((placed) => {
              const node = nodesById.get(placed.id);
              const shown = near?.nodes.has(placed.id) ?? false;
              return (
                node && (
                  <g key={placed.id} className={shown ? `node ${node.state} near` : `node ${node.state}`}>
                    <NodeFace node={node} placed={placed} density={layout.density} />
                  </g>
                )
              );
            })}
          </g>
          <g role="group" aria-label="Nodes">
            {layout.nodes.map(({ id, x, y, width: wide, height }) => {
              const node = nodesById.get(id);
              return (
                node && (
                  <g key={id} className="node-handle" {...handle('node', id, nodeStop, nodeLabel(node))}>
                    <rect x={x + 0.5} y={y + 0.5} width={wide - 1} height={height - 1} rx={roundness(layout.density)} />
                  </g>
                )
              );
            })}
          </g>
        </svg>
      )}
      {looked && !isSame(looked, chosen) && <Tip looked={looked} layout={layout} nodes={nodesById} pipes={pipesById} />}
      {nodes.length === 0 && <p className="empty">No node is registered.</p>}
    </div>
  );
}

function NodeFace({ node, placed, density }: { node: NodeView; placed: PlacedNode; density: Density }) {
  const { x, y, width, height } = placed;
  const back = <rect className="node-back" x={x + 0.5} y={y + 0.5} width={width - 1} height={height - 1} rx={roundness(density)} />;
  const letters = (room: number) => Math.max(3, Math.floor(room / LETTER));
  if (density === 'line') {
    const people = count(node.people);
    const isSmall = width < 140;
    const [start, end] = isSmall ? [19, 5] : [24, 8];
    const room = (width - start - end - 6 - people.length * (isSmall ? 6.2 : 7)) * (isSmall ? LETTER / SMALL_LETTER : 1);
    return (
      <>
        {back}
        <Meter load={node.load} x={x + 6} y={y + height - 4} width={width - 12} height={2} />
        <Glyph state={node.state} x={x + (isSmall ? 10 : 13)} y={y + 10.5} />
        <text className={isSmall ? 'node-name small' : 'node-name'} x={x + start} y={y + 14.5}>
          {shortened(node.id, letters(room))}
        </text>
        <text className={isSmall ? 'node-number small' : 'node-number'} x={x + width - end} y={y + 14.5} textAnchor="end">
          {people}
        </text>
      </>
    );
  }
  const isWide = width >= 190;
  const state = isWide ? STATES[node.state] : '';
  if (density === 'row') {
    const right = isWide ? (node.state === 'serving' ? many(node.people, 'person', 'people') : state) : count(node.people);
    return (
      <>
        {back}
        <Glyph state={node.state} x={x + 15} y={y + 16} />
        <text className="node-name" x={x + 28} y={y + 20.5}>
          {shortened(node.id, letters(width - 44 - right.length * 6.6))}
        </text>
        <text className={node.state === 'serving' ? 'node-number' : `node-state ${node.state}`} x={x + width - 10} y={y + 20.5} textAnchor="end">
          {right}
        </text>
        <Meter load={node.load} x={x + 10} y={y + height - 12} width={width - 20} height={4} />
      </>
    );
  }
  return (
    <>
      {back}
      <Glyph state={node.state} x={x + 17} y={y + 19} />
      <text className="node-name" x={x + 31} y={y + 23.5}>
        {shortened(node.id, letters(width - 50 - state.length * 6.6))}
      </text>
      <text className={`node-state ${node.state}`} x={x + width - 12} y={y + 23.5} textAnchor="end">
        {state}
      </text>
      <Meter load={node.load} x={x + 12} y={y + 37} width={width - (isWide ? 66 : 24)} height={6} />
      {isWide && node.load !== null && (
        <text className="node-number" x={x + width - 12} y={y + 44} textAnchor="end">
          {load(node.load)}
        </text>
      )}
      <text className="node-facts" x={x + 12} y={y + 63}>
        {node.load === null ? 'no report' : isWide ? `${many(node.people, 'person', 'people')} · ${many(node.rooms, 'room', 'rooms')}` : `${count(node.people)} · ${load(node.load)}`}
      </text>
    </>
  );
}

function roundness(density: Density): number {
  return density === 'line' ? 5 : 9;
}

function Meter({ load, x, y, width, height }: { load: number | null; x: number; y: number; width: number; height: number }) {
  const part = Math.min(1, Math.max(0, load ?? 0));
  const round = height / 2;
  return (
    <>
      <rect className="meter-back" x={x} y={y} width={width} height={height} rx={round} />
      {part > 0 && <rect className={`meter ${loadClass(part)}`} x={x} y={y} width={Math.max(height, part * width)} height={height} rx={round} />}
    </>
  );
}

function PipeLabel({ pipe, x, y }: { pipe: PipeView; x: number; y: number }) {
  const isWell = pipe.health === 'good' || pipe.health === 'unknown';
  const first = pipe.health === 'broken' ? 'down' : pipe.state === 'silent' ? 'silent' : millis(pipe.rttMs);
  const second = !isWell && pipe.state === 'up' ? `${loss(pipe.loss)} lost` : rate(pipe.bitsPerSecond);
  return (
    <g className={`pipe-label ${pipe.health}`} transform={`translate(${x} ${y})`}>
      <text y="-3" textAnchor="middle">
        {first}
      </text>
      <text className="second" y="11" textAnchor="middle">
        {second}
      </text>
    </g>
  );
}

interface TipProps {
  looked: { kind: 'node' | 'pipe'; id: string };
  layout: Layout;
  nodes: Map<string, NodeView>;
  pipes: Map<string, PipeView>;
}

/** The numbers of what is pointed at. Labels say the same to those who do not see it. */
function Tip({ looked, layout, nodes, pipes }: TipProps) {
  const { kind, id } = looked;
  const place = kind === 'node' ? layout.nodes.find((it) => it.id === id) : layout.pipes.find((it) => it.id === id);
  const lines = kind === 'node' ? nodeLines(nodes.get(id)) : pipeLines(pipes.get(id));
  if (!place || !lines) return null;
  const position = kind === 'node' ? besideNode(place as PlacedNode, layout.width) : belowPoint((place as PlacedPipe).middle, layout.width);
  return (
    <div className="tip" style={position} aria-hidden="true">
      <strong>{kind === 'node' ? id : pipes.get(id)?.ends.join(' – ')}</strong>
      {lines.map((line, index) => (
        <span key={index}>{line}</span>
      ))}
    </div>
  );
}

const TIP_WIDTH = 216;

function besideNode(node: PlacedNode, width: number): React.CSSProperties {
  const beside = node.side === 'left' ? node.x + node.width + 10 : node.x - TIP_WIDTH - 10;
  const fits = width > 700;
  if (fits) return { left: beside, top: node.y, width: TIP_WIDTH };
  return belowPoint({ x: node.x + node.width / 2, y: node.y + node.height }, width);
}

function belowPoint({ x, y }: { x: number; y: number }, width: number): React.CSSProperties {
  return { left: Math.max(0, Math.min(width - TIP_WIDTH, x - TIP_WIDTH / 2)), top: y + 14, width: TIP_WIDTH };
}

function nodeLines(node: NodeView | undefined): string[] | undefined {
  if (!node) return undefined;
  const first = `${STATES[node.state]}, in ${node.region}`;
  if (node.load === null) return [first];
  return [
    first,
    `load ${load(node.load)}`,
    `${many(node.people, 'person', 'people')}, ${many(node.rooms, 'room', 'rooms')}`,
    `${many(node.tracks, 'track', 'tracks')}, ${many(node.subscriptions, 'subscription', 'subscriptions')}`,
    `sends ${rate(node.bitsPerSecond)}`,
  ];
}

function pipeLines(pipe: PipeView | undefined): string[] | undefined {
  if (!pipe) return undefined;
  const [one, other] = pipe.ends;
  return [
    `${pipe.state}, round trip ${millis(pipe.rttMs)}`,
    `${one} → ${other}`,
    wayOf(pipe.there),
    `${other} → ${one}`,
    wayOf(pipe.back),
  ];
}

function wayOf(way: PipeView['there']): string {
  return `${rate(way.bits_per_second)}, ${many(way.tracks, 'track', 'tracks')}, ${loss(way.loss)} lost`;
}

function nodeLabel(node: NodeView): string {
  const numbers = node.load === null ? '' : `, load ${load(node.load)}, ${many(node.people, 'person', 'people')}, ${many(node.rooms, 'room', 'rooms')}`;
  return `${node.id}, ${node.region}, ${STATES[node.state]}${numbers}`;
}

function pipeLabel(pipe: PipeView): string {
  const numbers = `round trip ${millis(pipe.rttMs)}, ${loss(pipe.loss)} lost, ${rate(pipe.bitsPerSecond)}, ${many(pipe.tracks, 'track', 'tracks')}`;
  return `Pipe between ${pipe.ends[0]} and ${pipe.ends[1]}, ${HEALTH[pipe.health]}, ${numbers}`;
}

function isSame(one: Chosen, other: Chosen): boolean {
  return one?.kind === other?.kind && one?.id === other?.id;
}

/** What belongs to what somebody looks at; the rest steps back. */
function neighbours(seen: Chosen, { nodes, pipes }: Layout): { nodes: Set<string>; pipes: Set<string> } | null {
  if (!seen) return null;
  const touching = pipes.filter(({ id, ends }) => (seen.kind === 'pipe' ? id === seen.id : ends.includes(seen.id)));
  const near = new Set(touching.flatMap(({ ends }) => ends));
  if (seen.kind === 'node' && nodes.some(({ id }) => id === seen.id)) near.add(seen.id);
  return near.size > 0 ? { nodes: near, pipes: new Set(touching.map(({ id }) => id)) } : null;
}

/** The one of them that the Tab key leads to. */
function stopOf(kind: 'node' | 'pipe', chosen: Chosen, looked: Chosen, placed: { id: string }[]): string | undefined {
  for (const it of [looked, chosen]) if (it?.kind === kind && placed.some(({ id }) => id === it.id)) return it.id;
  return placed[0]?.id;
}

function nextNode({ nodes }: Layout, id: string, key: string): string | undefined {
  const current = nodes.find((node) => node.id === id);
  if (current && (key === 'ArrowLeft' || key === 'ArrowRight')) {
    const side = key === 'ArrowLeft' ? 'left' : 'right';
    const others = nodes.filter((node) => node.side === side && current.side !== side);
    const distance = (node: PlacedNode) => Math.abs(node.y - current.y);
    return others.sort((one, other) => distance(one) - distance(other))[0]?.id;
  }
  return nextOf(nodes, id, key);
}

function nextOf(placed: { id: string }[], id: string, key: string): string | undefined {
  const index = placed.findIndex((it) => it.id === id);
  switch (key) {
    case 'ArrowDown':
    case 'ArrowRight':
      return placed[index + 1]?.id;
    case 'ArrowUp':
    case 'ArrowLeft':
      return placed[index - 1]?.id;
    case 'Home':
      return placed[0]?.id;
    case 'End':
      return placed.at(-1)?.id;
    default:
      return undefined;
  }
}
