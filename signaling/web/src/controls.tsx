// The bar below the stage: what one sends, the hand, the chat, leaving.

import { type LocalParticipant, type Room, RoomEvent } from 'livekit-client';
import { type RefObject, useCallback, useEffect, useMemo, useState } from 'react';

import { useCall, useLive } from './call/context';
import { HAND } from './call/live';
import { SHORTCUTS } from './call/shortcuts';
import { Camera, CameraOff, Chat, Hand, Leave, Microphone, MicrophoneOff, Screen, Settings } from './icons';
import { type DeviceKind, deviceTrouble } from './words';

/** What a button does, and a key as well. */
export interface Switch {
  on: boolean;
  busy: boolean;
  toggle: () => void;
}

export interface Switches {
  microphone: Switch;
  camera: Switch;
  screen: Switch | undefined;
  hand: Switch | undefined;
  trouble: string | undefined;
}

type Name = 'microphone' | 'camera' | 'screen' | 'hand';

/** Declining to choose a screen is no error worth words. */
const SHARING = { audio: true, selfBrowserSurface: 'include' } as const;

export function useSwitches(room: Room): Switches {
  const { self } = useCall();
  const [busy, setBusy] = useState<ReadonlySet<Name>>(new Set());
  const [trouble, setTrouble] = useState<string>();
  useEffect(() => {
    const fail = (error: Error, kind?: MediaDeviceKind) => {
      const device: DeviceKind | undefined = kind === 'audioinput' ? 'microphone' : kind === 'videoinput' ? 'camera' : undefined;
      if (device) setTrouble(deviceTrouble(device, error));
    };
    const clear = () => setTrouble(undefined);
    room.on(RoomEvent.MediaDevicesError, fail).on(RoomEvent.LocalTrackPublished, clear);
    return () => {
      room.off(RoomEvent.MediaDevicesError, fail).off(RoomEvent.LocalTrackPublished, clear);
    };
  }, [room]);

  const doing = useCallback(async (name: Name, work: () => Promise<unknown>) => {
    setBusy((now) => new Set(now).add(name));
    await work().catch(() => undefined);
    setBusy((now) => new Set([...now].filter((it) => it !== name)));
  }, []);

  const { isMuted: microphoneOff = true } = self.microphone ?? {};
  const on = {
    microphone: !microphoneOff,
    camera: self.camera !== undefined && !self.camera.muted,
    screen: self.screen !== undefined,
    hand: self.handSince !== undefined,
  };
  const { microphone, camera, screen, hand } = on;
  return useMemo(() => {
    const person: LocalParticipant = room.localParticipant;
    const make = (name: Name, is: boolean, work: () => Promise<unknown>): Switch => ({
      on: is,
      busy: busy.has(name),
      toggle: () => {
        if (!busy.has(name)) void doing(name, work);
      },
    });
    // Absent in browsers that share no screens, whatever the types say.
    const canShare = 'mediaDevices' in navigator && 'getDisplayMedia' in navigator.mediaDevices;
    const canRaise = person.permissions?.canUpdateMetadata !== false;
    return {
      microphone: make('microphone', microphone, () => person.setMicrophoneEnabled(!microphone)),
      camera: make('camera', camera, () => person.setCameraEnabled(!camera)),
      screen: canShare ? make('screen', screen, () => person.setScreenShareEnabled(!screen, SHARING)) : undefined,
      hand: canRaise ? make('hand', hand, () => raise(person, !hand)) : undefined,
      trouble,
    };
  }, [room, microphone, camera, screen, hand, busy, doing, trouble]);
}

/** With the time, so that everybody sees who was first. */
function raise(person: LocalParticipant, up: boolean): Promise<void> {
  return person.setAttributes({ [HAND]: up ? `${Date.now()}` : '' });
}

interface Props {
  switches: Switches;
  chatOpen: boolean;
  unread: number;
  onChat: () => void;
  settings: RefObject<HTMLDialogElement | null>;
}

export function Controls({ switches, chatOpen, unread, onChat, settings }: Props) {
  const { room } = useLive();
  const { microphone, camera, screen, hand, trouble } = switches;
  return (
    <footer className="controls">
      {trouble && (
        <p className="trouble" role="alert">
          {trouble}
        </p>
      )}
      <div className="bar" role="toolbar" aria-label="Call">
        <Toggle label="Microphone" is={microphone} shortcut={SHORTCUTS.microphone}>
          {microphone.on ? <Microphone /> : <MicrophoneOff />}
        </Toggle>
        <Toggle label="Camera" is={camera} shortcut={SHORTCUTS.camera}>
          {camera.on ? <Camera /> : <CameraOff />}
        </Toggle>
        {screen && (
          <Toggle label="Share" name="Share screen" is={screen} shortcut={SHORTCUTS.share} calm>
            <Screen />
          </Toggle>
        )}
        {hand && (
          <Toggle label="Hand" name="Raise hand" is={hand} shortcut={SHORTCUTS.hand} calm>
            <Hand />
          </Toggle>
        )}
        <button type="button" className="control calm" aria-pressed={chatOpen} onClick={onChat} title={`Chat (${SHORTCUTS.chat})`} aria-keyshortcuts={SHORTCUTS.chat}>
          <Chat />
          <span>Chat</span>
          {unread > 0 && (
            <b className="badge" role="img" aria-label={`${unread} unread`}>
              {Math.min(unread, 99)}
            </b>
          )}
        </button>
        <button type="button" className="control calm" onClick={() => settings.current?.showModal()} title={`Devices (${SHORTCUTS.help})`} aria-keyshortcuts={SHORTCUTS.help}>
          <Settings />
          <span>Devices</span>
        </button>
        <button type="button" className="control leave" onClick={() => void room.disconnect()} title="Leave">
          <Leave />
          <span>Leave</span>
        </button>
      </div>
    </footer>
  );
}

interface ToggleProps {
  label: string;
  /** If the label is short for it. */
  name?: string;
  is: Switch;
  shortcut: string;
  calm?: boolean;
  children: React.ReactNode;
}

/** `calm`: being off is the usual state and needs no colour. */
function Toggle({ label, name = label, is, shortcut, calm, children }: ToggleProps) {
  return (
    <button
      type="button"
      className={calm ? 'control calm' : 'control'}
      aria-pressed={is.on}
      aria-busy={is.busy}
      aria-label={name}
      aria-keyshortcuts={shortcut}
      title={`${name} (${shortcut})`}
      onClick={is.toggle}
    >
      {children}
      <span>{label}</span>
    </button>
  );
}
