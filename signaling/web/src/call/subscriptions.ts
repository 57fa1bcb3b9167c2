// What is received: everybody's sound, and the pictures that are to be seen.

import { type RemoteTrackPublication, type Room, RoomEvent, Track } from 'livekit-client';

import { type TileId, tileId } from './arrange';

export class Subscriptions {
  private wanted: ReadonlySet<TileId> = new Set();
  /** What the server was told of each; one that is published anew is another one. */
  private told = new WeakMap<RemoteTrackPublication, boolean>();

  constructor(private readonly room: Room) {
    // Not left to the page, which a browser does not draw while nobody looks at it.
    room.on(RoomEvent.TrackPublished, this.apply).on(RoomEvent.Reconnected, this.apply);
    room.on(RoomEvent.Connected, this.apply).on(RoomEvent.ParticipantConnected, this.apply);
    this.apply();
  }

  end(): void {
    const { room } = this;
    room.off(RoomEvent.TrackPublished, this.apply).off(RoomEvent.Reconnected, this.apply);
    room.off(RoomEvent.Connected, this.apply).off(RoomEvent.ParticipantConnected, this.apply);
  }

  /** The pictures to be seen from now on. */
  want(tiles: Iterable<TileId>): void {
    this.wanted = new Set(tiles);
    this.apply();
  }

  readonly apply = () => {
    for (const { identity, trackPublications } of this.room.remoteParticipants.values()) {
      for (const publication of trackPublications.values()) {
        this.settle(identity, publication);
      }
    }
  };

  private settle(identity: string, publication: RemoteTrackPublication): void {
    const wanted = publication.kind === Track.Kind.Audio || this.wanted.has(this.tile(identity, publication));
    // What the SDK believes to be subscribed to from the start is not what the server was told.
    if ((this.told.get(publication) ?? false) === wanted) return;
    this.told.set(publication, wanted);
    publication.setSubscribed(wanted);
  }

  private tile(identity: string, { source }: RemoteTrackPublication): TileId {
    return tileId(source === Track.Source.ScreenShare ? 'screen' : 'camera', identity);
  }
}
