// A call as pages show it: plain values that change as the room does, at most once in a frame's time.

import {
  ConnectionQuality,
  ConnectionState,
  type LocalParticipant,
  type Participant,
  type Room,
  RoomEvent,
  Track,
  type TrackPublication,
} from 'livekit-client';

import { seat } from './arrange';
import { Subscriptions } from './subscriptions';

export interface Picture {
  publication: TrackPublication;
  /** There once it is subscribed to, and while it is not muted. */
  track: Track | undefined;
  muted: boolean;
  /** By the server: the line does not suffice. */
  paused: boolean;
}

export interface Person {
  participant: Participant;
  identity: string;
  name: string;
  isLocal: boolean;
  speaking: boolean;
  spokeAt: number;
  quality: ConnectionQuality;
  /** When the hand was raised. */
  handSince: number | undefined;
  place: Place;
  microphone: TrackPublication | undefined;
  /** Whether nothing is heard of them. */
  muted: boolean;
  camera: Picture | undefined;
  screen: Picture | undefined;
}

/** Where somebody is, as signaling says. */
export interface Place {
  node: string;
  region: string;
  placement: string;
}

export type Link = 'connecting' | 'connected' | 'reconnecting';

export interface Call {
  self: Person;
  /** Everybody, in the order in which they sit. */
  people: Person[];
  link: Link;
  /** Counts the times that the connection was lost and came back. */
  returns: number;
  /** Where one was moved to, and the how manieth time that is. */
  moved: { place: Place; count: number } | undefined;
  /** Of the others who spoke last. */
  speaker: string | undefined;
  /** The browser plays nothing before somebody clicks. */
  soundBlocked: boolean;
}

/** Long enough for what comes together, too short to be seen. */
const FRAME_MS = 16;

export const HAND = 'hand';

const CHANGES = [
  RoomEvent.ConnectionStateChanged,
  RoomEvent.Reconnected,
  RoomEvent.Moved,
  RoomEvent.ParticipantConnected,
  RoomEvent.ParticipantDisconnected,
  RoomEvent.ParticipantActive,
  RoomEvent.ParticipantAttributesChanged,
  RoomEvent.ParticipantNameChanged,
  RoomEvent.ParticipantPermissionsChanged,
  RoomEvent.TrackPublished,
  RoomEvent.TrackUnpublished,
  RoomEvent.TrackSubscribed,
  RoomEvent.TrackUnsubscribed,
  RoomEvent.TrackMuted,
  RoomEvent.TrackUnmuted,
  RoomEvent.TrackStreamStateChanged,
  RoomEvent.LocalTrackPublished,
  RoomEvent.LocalTrackUnpublished,
  RoomEvent.ActiveSpeakersChanged,
  RoomEvent.ConnectionQualityChanged,
  RoomEvent.AudioPlaybackStatusChanged,
] as const;

export class Live {
  readonly subscriptions: Subscriptions;
  private readonly listeners = new Set<() => void>();
  private order: string[] = [];
  /** Seats on the first page. */
  private first = 1;
  private call: Call;
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(readonly room: Room) {
    this.subscriptions = new Subscriptions(room);
    this.call = this.look(undefined);
    for (const event of CHANGES) room.on(event, this.change);
    room.on(RoomEvent.Reconnected, this.comeBack);
  }

  end(): void {
    clearTimeout(this.timer);
    this.subscriptions.end();
    for (const event of CHANGES) this.room.off(event, this.change);
    this.room.off(RoomEvent.Reconnected, this.comeBack);
  }

  // As React's useSyncExternalStore wants it.

  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  readonly snapshot = (): Call => this.call;

  /** So that those who speak come to the first page. */
  seatFirst(count: number): void {
    if (count === this.first) return;
    this.first = count;
    this.change();
  }

  private readonly comeBack = () => {
    this.call = { ...this.call, returns: this.call.returns + 1 };
  };

  private readonly change = () => {
    this.timer ??= setTimeout(() => {
      this.timer = undefined;
      this.call = this.look(this.call);
      this.subscriptions.apply();
      for (const listener of this.listeners) listener();
    }, FRAME_MS);
  };

  private look(before: Call | undefined): Call {
    const { room } = this;
    const link = linkOf(room.state);
    const self = describe(room.localParticipant, true);
    let others = [...room.remoteParticipants.values()].map((participant) => describe(participant, false));
    // The SDK forgets everybody when it joins anew. They are most likely still there.
    if (link !== 'connected' && before) others = before.people.filter(({ isLocal }) => !isLocal);
    const present = [self, ...others.sort((one, other) => joined(one) - joined(other))];
    this.order = seat(this.order, present, this.first, self.identity);
    const byIdentity = new Map(present.map((person) => [person.identity, person]));
    const people = this.order.flatMap((identity) => byIdentity.get(identity) ?? []);
    const loud = room.activeSpeakers.find((participant) => participant !== room.localParticipant);
    return {
      self,
      people,
      link,
      returns: before?.returns ?? 0,
      moved: whereTo(before, self.place),
      speaker: loud?.identity ?? before?.speaker,
      soundBlocked: !room.canPlaybackAudio,
    };
  }
}

/** Of the last place that was known; nobody is nowhere. */
function whereTo(before: Call | undefined, place: Place): Call['moved'] {
  const former = before?.self.place.node;
  if (!former || !place.node || former === place.node) return before?.moved;
  return { place, count: (before.moved?.count ?? 0) + 1 };
}

function linkOf(state: ConnectionState): Link {
  switch (state) {
    case ConnectionState.Connected:
      return 'connected';
    case ConnectionState.Reconnecting:
    case ConnectionState.SignalReconnecting:
      return 'reconnecting';
    default:
      return 'connecting';
  }
}

function joined({ participant }: Person): number {
  return participant.joinedAt?.getTime() ?? 0;
}

function describe(participant: Participant | LocalParticipant, isLocal: boolean): Person {
  const { attributes } = participant;
  const microphone = participant.getTrackPublication(Track.Source.Microphone);
  const hand = Number(attributes[HAND]);
  return {
    participant,
    identity: participant.identity,
    name: participant.name || participant.identity,
    isLocal,
    speaking: participant.isSpeaking,
    spokeAt: participant.lastSpokeAt?.getTime() ?? 0,
    quality: participant.connectionQuality,
    handSince: hand > 0 ? hand : undefined,
    place: {
      node: attributes['pipemesh.node'] ?? '',
      region: attributes['pipemesh.region'] ?? '',
      placement: attributes['pipemesh.placement'] ?? '',
    },
    microphone,
    muted: microphone?.isMuted ?? true,
    camera: picture(participant.getTrackPublication(Track.Source.Camera)),
    screen: picture(participant.getTrackPublication(Track.Source.ScreenShare)),
  };
}

function picture(publication: TrackPublication | undefined): Picture | undefined {
  if (!publication) return undefined;
  const { track, isMuted } = publication;
  const paused = track?.streamState === Track.StreamState.Paused;
  return { publication, track: isMuted ? undefined : track, muted: isMuted, paused };
}

/** What a connection is worth; only what is known counts. */
export function isPoor(quality: ConnectionQuality): boolean {
  return quality === ConnectionQuality.Poor || quality === ConnectionQuality.Lost;
}
