// Choosing during the call: devices, how much is to be seen, and what keys do.

import { type Room, RoomEvent } from 'livekit-client';
import { type RefObject, useEffect, useId, useState } from 'react';

import { useLive } from './call/context';
import { MEANINGS, SHORTCUTS } from './call/shortcuts';
import { useDeviceList } from './devices';
import { Close } from './icons';
import { type Choices, PER_PAGE, rememberChoices } from './memory';

interface Props {
  dialog: RefObject<HTMLDialogElement | null>;
  choices: Choices;
  onChoose: (changes: Partial<Choices>) => void;
  audioOnly: boolean;
  onAudioOnly: (audioOnly: boolean) => void;
}

export function SettingsDialog({ dialog, choices, onChoose, audioOnly, onAudioOnly }: Props) {
  const id = useId();
  return (
    <dialog ref={dialog} className="settings" aria-labelledby={id}>
      <header>
        <h2 id={id}>Devices and view</h2>
        <button type="button" className="icon-button" aria-label="Close the settings" onClick={() => dialog.current?.close()}>
          <Close />
        </button>
      </header>
      <div className="settings-fields">
        <DeviceSelect kind="audioinput" label="Microphone" remember="microphoneId" />
        <DeviceSelect kind="videoinput" label="Camera" remember="cameraId" />
        <DeviceSelect kind="audiooutput" label="Speaker" remember="speakerId" />
        <label>
          People on a page
          <select value={choices.perPage} onChange={(event) => onChoose({ perPage: Number(event.target.value) })}>
            {PER_PAGE.map((count) => (
              <option key={count} value={count}>
                {count} at most
              </option>
            ))}
          </select>
        </label>
        <label className="check">
          <input type="checkbox" checked={audioOnly} onChange={(event) => onAudioOnly(event.target.checked)} />
          <span>
            Sound only
            <small>Leaves out the pictures of others. Helps on a thin line.</small>
          </span>
        </label>
        <label className="check">
          <input type="checkbox" checked={choices.shortcuts} onChange={(event) => onChoose({ shortcuts: event.target.checked })} />
          <span>Keys as shortcuts</span>
        </label>
      </div>
      <dl className="keys" aria-label="Shortcuts" aria-disabled={!choices.shortcuts}>
        {MEANINGS.map(([shortcut, words]) => (
          <div key={shortcut}>
            <dt>
              <kbd>{SHORTCUTS[shortcut]}</kbd>
            </dt>
            <dd>{words}</dd>
          </div>
        ))}
      </dl>
    </dialog>
  );
}

interface DeviceSelectProps {
  kind: MediaDeviceKind;
  label: string;
  remember: 'cameraId' | 'microphoneId' | 'speakerId';
}

function DeviceSelect({ kind, label, remember }: DeviceSelectProps) {
  const { room } = useLive();
  const active = useActiveDevice(room, kind);
  const devices = useDeviceList(kind, active);
  if (devices.length === 0) return null;
  const choose = async (deviceId: string) => {
    await room.switchActiveDevice(kind, deviceId);
    rememberChoices(localStorage, { [remember]: deviceId });
  };
  return (
    <label>
      {label}
      <select value={active} onChange={(event) => void choose(event.target.value).catch(() => undefined)}>
        {devices.map((device, index) => (
          <option key={device.deviceId} value={device.deviceId}>
            {device.label || `${label} ${index + 1}`}
          </option>
        ))}
      </select>
    </label>
  );
}

function useActiveDevice(room: Room, kind: MediaDeviceKind): string {
  const [active, setActive] = useState(() => room.getActiveDevice(kind) ?? 'default');
  useEffect(() => {
    const look = () => setActive(room.getActiveDevice(kind) ?? 'default');
    room.on(RoomEvent.ActiveDeviceChanged, look).on(RoomEvent.LocalTrackPublished, look);
    return () => {
      room.off(RoomEvent.ActiveDeviceChanged, look).off(RoomEvent.LocalTrackPublished, look);
    };
  }, [room, kind]);
  return active;
}
