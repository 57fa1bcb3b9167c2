// One person or one shared screen.

import { type TrackReferenceOrPlaceholder, VideoTrack, isTrackReference, useConnectionQualityIndicator, useIsMuted, useIsSpeaking, useParticipantInfo } from '@livekit/components-react';
import { ConnectionQuality, Track } from 'livekit-client';

import { MicrophoneOff } from './icons';
import { hue, initials, quality } from './words';

const COLOURS = 6;

export function Tile({ track }: { track: TrackReferenceOrPlaceholder }) {
  const { participant, source } = track;
  const speaking = useIsSpeaking(participant);
  const muted = useIsMuted({ participant, source: Track.Source.Microphone });
  const { quality: connection } = useConnectionQualityIndicator({ participant });
  const info = useParticipantInfo({ participant });
  const name = info.name || participant.identity;
  const isScreen = source === Track.Source.ScreenShare;
  const label = isScreen ? `Screen of ${name}` : participant.isLocal ? `${name} (you)` : name;
  const seen = isTrackReference(track) && !track.publication.isMuted;

  const classes = ['tile'];
  if (isScreen) classes.push('screen');
  if (speaking && !isScreen) classes.push('speaking');
  if (participant.isLocal && !isScreen) classes.push('mirrored');

  return (
    <figure className={classes.join(' ')} data-identity={participant.identity} data-source={source}>
      {seen ? (
        <VideoTrack trackRef={track} />
      ) : (
        <div className={`avatar colour-${hue(participant.identity, COLOURS)}`} aria-hidden="true">
          {initials(name)}
        </div>
      )}
      <figcaption>
        {muted && !isScreen && (
          <span className="muted" role="img" aria-label="muted">
            <MicrophoneOff />
          </span>
        )}
        <span className="name">{label}</span>
        {speaking && !isScreen && <span className="unseen">is speaking</span>}
        {!isScreen && <Bars value={connection} />}
      </figcaption>
    </figure>
  );
}

function Bars({ value }: { value: ConnectionQuality }) {
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
