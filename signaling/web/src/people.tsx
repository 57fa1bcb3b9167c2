// Everybody in the room, whether there is a tile of them or not.

import type { KeyboardEvent } from 'react';

import { type TileId, tileId } from './call/arrange';
import { useCall } from './call/context';
import type { Person } from './call/live';
import { CameraOff, Close, Focus, Hand, Info, MicrophoneOff } from './icons';
import { Bars } from './tile';
import { hue, initials } from './words';

interface Props {
  onPin: (id: TileId) => void;
  onDetails: (id: TileId) => void;
  onClose: () => void;
}

export function PeoplePanel({ onPin, onDetails, onClose }: Props) {
  const { people } = useCall();
  const closeOnEscape = (event: KeyboardEvent) => {
    if (event.key === 'Escape') onClose();
  };
  // Raised hands first, the first raised first; then by name.
  const sorted = people.toSorted(
    (one, other) =>
      (one.handSince ?? Infinity) - (other.handSince ?? Infinity) || Number(other.isLocal) - Number(one.isLocal) || one.name.localeCompare(other.name),
  );
  return (
    <aside className="panel roster" aria-label="People in the room" onKeyDown={closeOnEscape}>
      <header>
        <h2>People</h2>
        <button type="button" className="icon-button" onClick={onClose} aria-label="Close the list" autoFocus>
          <Close />
        </button>
      </header>
      <ul>
        {sorted.map((person) => (
          <Entry key={person.identity} person={person} onPin={onPin} onDetails={onDetails} />
        ))}
      </ul>
    </aside>
  );
}

function Entry({ person, onPin, onDetails }: { person: Person } & Pick<Props, 'onPin' | 'onDetails'>) {
  const { identity, name, isLocal, place } = person;
  const id = tileId('camera', identity);
  return (
    <li className={person.speaking ? 'speaking' : undefined}>
      <span className={`face colour-${hue(identity, 6)}`} aria-hidden="true">
        {initials(name)}
      </span>
      <span className="who">
        <b>{name}</b>
        <small>{[isLocal && 'you', place.region].filter(Boolean).join(' · ')}</small>
      </span>
      {person.handSince !== undefined && (
        <span className="hand" role="img" aria-label="hand raised">
          <Hand />
        </span>
      )}
      {person.muted && (
        <span className="off" role="img" aria-label="microphone off">
          <MicrophoneOff />
        </span>
      )}
      {(person.camera?.muted ?? true) && (
        <span className="off" role="img" aria-label="camera off">
          <CameraOff />
        </span>
      )}
      <Bars value={person.quality} />
      <button type="button" className="icon-button" aria-label={`Keep ${name} large`} title="Keep large" onClick={() => onPin(id)}>
        <Focus />
      </button>
      <button type="button" className="icon-button" aria-label={`Details of ${name}`} title="Details" onClick={() => onDetails(id)}>
        <Info />
      </button>
    </li>
  );
}
