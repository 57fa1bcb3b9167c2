// What is heard of the others.

import { type RemoteTrack, RoomEvent, Track } from 'livekit-client';
import { useEffect, useRef } from 'react';

import { useCall, useLive } from './context';

export function Sound() {
  const { room } = useLive();
  const place = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const attached = new Set<RemoteTrack>();
    const add = (track: RemoteTrack) => {
      if (track.kind !== Track.Kind.Audio || attached.has(track)) return;
      attached.add(track);
      place.current?.append(track.attach());
    };
    const remove = (track: RemoteTrack) => {
      if (attached.delete(track)) for (const element of track.detach()) element.remove();
    };
    room.on(RoomEvent.TrackSubscribed, add).on(RoomEvent.TrackUnsubscribed, remove);
    for (const { audioTrackPublications } of room.remoteParticipants.values()) {
      for (const { audioTrack } of audioTrackPublications.values()) if (audioTrack) add(audioTrack as RemoteTrack);
    }
    return () => {
      room.off(RoomEvent.TrackSubscribed, add).off(RoomEvent.TrackUnsubscribed, remove);
      attached.forEach(remove);
    };
  }, [room]);
  return <div ref={place} hidden />;
}

/** Browsers play sound after a click only. */
export function StartSound() {
  const { soundBlocked } = useCall();
  const { room } = useLive();
  if (!soundBlocked) return null;
  return (
    <button type="button" className="primary start-audio" onClick={() => void room.startAudio().catch(() => undefined)}>
      Turn the sound on
    </button>
  );
}
