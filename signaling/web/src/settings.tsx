// Choosing devices during the call.

import { useMediaDeviceSelect } from '@livekit/components-react';
import type { RefObject } from 'react';

import { Close } from './icons';

export function SettingsDialog({ dialog }: { dialog: RefObject<HTMLDialogElement | null> }) {
  return (
    <dialog ref={dialog} className="settings" aria-labelledby="settings-title">
      <form method="dialog">
        <header>
          <h2 id="settings-title">Devices</h2>
          <button className="icon-button" aria-label="Close">
            <Close />
          </button>
        </header>
        <DeviceSelect kind="audioinput" label="Microphone" />
        <DeviceSelect kind="videoinput" label="Camera" />
        <DeviceSelect kind="audiooutput" label="Speaker" />
      </form>
    </dialog>
  );
}

function DeviceSelect({ kind, label }: { kind: MediaDeviceKind; label: string }) {
  const { devices, activeDeviceId, setActiveMediaDevice } = useMediaDeviceSelect({ kind });
  if (devices.length === 0) return null;
  return (
    <label>
      {label}
      <select
        value={activeDeviceId}
        onChange={(event) => void setActiveMediaDevice(event.target.value).catch(() => undefined)}
      >
        {devices.map((device, index) => (
          <option key={device.deviceId} value={device.deviceId}>
            {device.label || `${label} ${index + 1}`}
          </option>
        ))}
      </select>
    </label>
  );
}
