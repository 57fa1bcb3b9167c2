// Asks whether a node is meant to drain, or to serve again, and tells it.

import { useEffect, useRef, useState } from 'react';

import { type Api, ApiError } from './api';
import { type NodeView, isAlive } from './view';
import { many, trouble } from './words';

export function DrainButton({ node, onDrain, strong = false }: { node: NodeView; onDrain: (node: string, drains: boolean) => void; strong?: boolean }) {
  if (!isAlive(node)) return null;
  const drains = !node.isDraining;
  return (
    <button type="button" className={strong ? 'outlined' : 'outlined small'} aria-label={`${drains ? 'Drain' : 'Undrain'} ${node.id}`} onClick={() => onDrain(node.id, drains)}>
      {drains ? 'Drain…' : 'Undrain…'}
    </button>
  );
}

interface Props {
  api: Api;
  node: NodeView;
  nodes: NodeView[];
  drains: boolean;
  onDone: () => void;
  onClose: () => void;
}

export function DrainDialog({ api, node, nodes, drains, onDone, onClose }: Props) {
  const dialog = useRef<HTMLDialogElement>(null);
  const [isTelling, setTelling] = useState(false);
  const [complaint, setComplaint] = useState('');
  useEffect(() => {
    const element = dialog.current;
    if (element && !element.open) element.showModal();
  }, []);
  /** Not by taking it away: the browser gives the focus back to where it was. */
  const close = () => dialog.current?.close();
  const tell = async () => {
    setTelling(true);
    setComplaint('');
    try {
      await api.drain(node.id, drains);
      onDone();
      close();
    } catch (error) {
      setComplaint(error instanceof ApiError ? trouble(error) : String(error));
      setTelling(false);
    }
  };
  const takers = nodes.filter((other) => other.id !== node.id && other.region === node.region && other.state === 'serving');
  const people = many(node.people, 'person', 'people');
  return (
    <dialog ref={dialog} aria-labelledby="drain-title" aria-describedby="drain-words" onClose={onClose}>
      <h2 id="drain-title">
        {drains ? 'Drain' : 'Undrain'} {node.id}?
      </h2>
      <div id="drain-words">
        {drains ? (
          <>
            <p>
              It takes nobody new, and {people} in {many(node.rooms, 'room', 'rooms')} move to other nodes of {node.region}, a few a second. Undraining it ends that.
            </p>
            {takers.length === 0 && <p className="trouble">No other node of {node.region} serves. Rooms stay where they are until one does.</p>}
          </>
        ) : (
          <p>It takes new rooms and people again. Those who have moved stay where they are.</p>
        )}
      </div>
      {complaint && (
        <p className="trouble" role="alert">
          {complaint}
        </p>
      )}
      <div className="buttons">
        <button type="button" className="outlined" onClick={close}>
          Cancel
        </button>
        <button type="button" className={drains ? 'primary danger' : 'primary'} disabled={isTelling} onClick={() => void tell()}>
          {drains ? 'Drain' : 'Undrain'} {node.id}
        </button>
      </div>
    </dialog>
  );
}
