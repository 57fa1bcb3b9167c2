// One person or one shared screen.

import { ConnectionQuality, type Track } from 'livekit-client';
import { useEffect, useRef, useState } from 'react';

import { type Source, type TileId, tileId } from './call/arrange';
import type { Person } from './call/live';
import { Focus, Hand, Info, MicrophoneOff, Shrink } from './icons';
import { hue, initials, quality } from './words';

const COLOURS = 6;

export interface TileActions {
  /** The tile that is large because somebody wants it so. */
  pinned: TileId | undefined;
  onPin: ((id: TileId | undefined) => void) | undefined;
  /** The tile whose details are shown. */
  detailed: TileId | undefined;
  onDetails: (id: TileId) => void;
  /** Why pictures of others are left out, if they are. */
  audioOnly: boolean;
}

interface Props extends TileActions {
  person: Person;
  source: Source;
}

export function Tile({ person, source, pinned, onPin, detailed, onDetails, audioOnly }: Props) {
  const { identity, name, isLocal, speaking } = person;
  const isScreen = source === 'screen';
  const picture = isScreen ? person.screen : person.camera;
  const label = isScreen ? `Screen of ${name}` : isLocal ? `${name} (you)` : name;
  const id = tileId(source, identity);
  const left = audioOnly && !isLocal && picture !== undefined && !picture.muted;

  const classes = ['tile'];
  if (isScreen) classes.push('screen');
  if (speaking && !isScreen) classes.push('speaking');
  if (isLocal && !isScreen) classes.push('mirrored');
  if (detailed === id) classes.push('detailed');

  return (
    <figure className={classes.join(' ')} data-identity={identity} data-source={source}>
      {!isScreen && (
        <div className={`avatar colour-${hue(identity, COLOURS)}`} aria-hidden="true">
          {initials(name)}
        </div>
      )}
      {picture?.track && !left && <Video key={picture.track.sid} track={picture.track} label={label} />}
      {picture?.paused && !picture.muted && !left && <p className="tile-state">Picture paused: the line is thin</p>}
      <figcaption>
        {person.handSince !== undefined && !isScreen && (
          <span className="hand" role="img" aria-label="hand raised">
            <Hand />
          </span>
        )}
        {person.muted && !isScreen && (
          <span className="muted" role="img" aria-label="muted">
            <MicrophoneOff />
          </span>
        )}
        <span className="name">{label}</span>
        {speaking && !isScreen && <span className="unseen">is speaking</span>}
        {!isScreen && <Bars value={person.quality} />}
      </figcaption>
      <div className="tile-actions">
        {onPin && (
          <button
            type="button"
            className="tile-button"
            aria-label={pinned === id ? `Stop to keep ${label} large` : `Keep ${label} large`}
            aria-pressed={pinned === id}
            onClick={() => onPin(pinned === id ? undefined : id)}
          >
            {pinned === id ? <Shrink /> : <Focus />}
          </button>
        )}
        <button type="button" className="tile-button" aria-label={`Details of ${label}`} aria-expanded={detailed === id} onClick={() => onDetails(id)}>
          <Info />
        </button>
      </div>
    </figure>
  );
}

/** Seen once there is a picture: until then there is what lies under it. */
function Video({ track, label }: { track: Track; label: string }) {
  const element = useRef<HTMLVideoElement>(null);
  const [shown, setShown] = useState(false);
  useEffect(() => {
    const video = element.current;
    if (!video) return;
    track.attach(video);
    return () => void track.detach(video);
  }, [track]);
  return (
    <video
      ref={element}
      className={shown ? 'shown' : undefined}
      onLoadedData={() => setShown(true)}
      muted
      playsInline
      aria-label={label}
    />
  );
}

export function Bars({ value }: { value: ConnectionQuality }) {
  const level = { excellent: 3, good: 2, poor: 1, lost: 0, unknown: 0 }[value];
  if (value === ConnectionQuality.Unknown) return null;
  return (
    <span className={`bars level-${level}`} role="img" aria-label={quality(value)} title={quality(value)}>
      <i />
      <i />
      <i />
    </span>
  );
}
