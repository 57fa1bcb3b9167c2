// The bar below the stage: what one sends, the chat, leaving.

import { useRoomContext, useTrackToggle } from '@livekit/components-react';
import { RoomEvent, Track } from 'livekit-client';
import { useEffect, useRef, useState } from 'react';

import { Camera, CameraOff, Chat, Leave, Microphone, MicrophoneOff, Screen, Settings } from './icons';
import { SettingsDialog } from './settings';
import { deviceTrouble } from './words';

interface Props {
  chatOpen: boolean;
  unread: number;
  onChat: () => void;
}

export function Controls({ chatOpen, unread, onChat }: Props) {
  const room = useRoomContext();
  const [trouble, setTrouble] = useState<string>();
  const dialog = useRef<HTMLDialogElement>(null);
  const canShare = 'mediaDevices' in navigator && 'getDisplayMedia' in navigator.mediaDevices;
  const microphone = useTrackToggle({ source: Track.Source.Microphone });
  const camera = useTrackToggle({ source: Track.Source.Camera });
  // Declining to choose a screen is no error worth words.
  const screen = useTrackToggle({ source: Track.Source.ScreenShare, captureOptions: { audio: true, selfBrowserSurface: 'include' } });

  useEffect(() => {
    const fail = (error: Error, kind?: MediaDeviceKind) => {
      if (kind === 'audioinput') setTrouble(deviceTrouble('microphone', error));
      if (kind === 'videoinput') setTrouble(deviceTrouble('camera', error));
    };
    const clear = () => setTrouble(undefined);
    room.on(RoomEvent.MediaDevicesError, fail).on(RoomEvent.LocalTrackPublished, clear);
    return () => {
      room.off(RoomEvent.MediaDevicesError, fail).off(RoomEvent.LocalTrackPublished, clear);
    };
  }, [room]);

  return (
    <footer className="controls">
      {trouble && (
        <p className="trouble" role="alert">
          {trouble}
        </p>
      )}
      <div className="bar" role="toolbar" aria-label="Call">
        <Toggle label="Microphone" on={microphone.enabled} busy={microphone.pending} toggle={microphone.toggle}>
          {microphone.enabled ? <Microphone /> : <MicrophoneOff />}
        </Toggle>
        <Toggle label="Camera" on={camera.enabled} busy={camera.pending} toggle={camera.toggle}>
          {camera.enabled ? <Camera /> : <CameraOff />}
        </Toggle>
        {canShare && (
          <Toggle label="Share" name="Share screen" on={screen.enabled} busy={screen.pending} toggle={screen.toggle} calm>
            <Screen />
          </Toggle>
        )}
        <button type="button" className="control calm" aria-pressed={chatOpen} onClick={onChat} title="Chat">
          <Chat />
          <span>Chat</span>
          {unread > 0 && (
            <b className="badge" aria-label={`${unread} unread`}>
              {Math.min(unread, 99)}
            </b>
          )}
        </button>
        <button type="button" className="control calm" onClick={() => dialog.current?.showModal()} title="Devices">
          <Settings />
          <span>Devices</span>
        </button>
        <button type="button" className="control leave" onClick={() => void room.disconnect()} title="Leave">
          <Leave />
          <span>Leave</span>
        </button>
      </div>
      <SettingsDialog dialog={dialog} />
    </footer>
  );
}

interface ToggleProps {
  label: string;
  /** If the label is short for it. */
  name?: string;
  on: boolean;
  busy: boolean;
  calm?: boolean;
  toggle: () => Promise<void>;
  children: React.ReactNode;
}

/** `calm`: being off is the usual state and needs no colour. */
function Toggle({ label, name = label, on, busy, calm, toggle, children }: ToggleProps) {
  return (
    <button
      type="button"
      className={calm ? 'control calm' : 'control'}
      aria-pressed={on}
      aria-busy={busy}
      aria-label={name}
      title={name}
      onClick={() => void toggle().catch(() => undefined)}
    >
      {children}
      <span>{label}</span>
    </button>
  );
}
