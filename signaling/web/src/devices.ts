// Cameras and microphones before a call: which there are, and a preview of the chosen ones.

import { type LocalAudioTrack, type LocalVideoTrack, VideoPresets, createLocalAudioTrack, createLocalVideoTrack } from 'livekit-client';
import { useCallback, useEffect, useRef, useState } from 'react';

import { deviceTrouble } from './words';

/** What is plugged in. Names are empty until a permission was given. */
export function useDeviceList(kind: MediaDeviceKind, refresh: unknown): MediaDeviceInfo[] {
  const [list, setList] = useState<MediaDeviceInfo[]>([]);
  useEffect(() => {
    if (!hasDevices()) return;
    let current = true;
    const look = () => {
      void navigator.mediaDevices.enumerateDevices().then((devices) => {
        if (current) setList(devices.filter((device) => device.kind === kind && device.deviceId));
      });
    };
    look();
    navigator.mediaDevices.addEventListener('devicechange', look);
    return () => {
      current = false;
      navigator.mediaDevices.removeEventListener('devicechange', look);
    };
  }, [kind, refresh]);
  return list;
}

export interface Preview<T> {
  /** Whether the person wants this device in the call. */
  wanted: boolean;
  setWanted: (wanted: boolean) => void;
  deviceId: string | undefined;
  setDeviceId: (deviceId: string) => void;
  track: T | undefined;
  trouble: string | undefined;
  /** After something that somebody may have mended. */
  again: () => void;
  /** Hands the running track over; from then on the preview does not stop it. */
  release: () => T | undefined;
  /** Takes a released track back. */
  keep: () => void;
}

/** One after the other: two questions for permission at once hide each other. */
let asking: Promise<unknown> = Promise.resolve();

function usePreview<T extends LocalAudioTrack | LocalVideoTrack>(
  kind: 'camera' | 'microphone',
  initially: boolean,
  remembered: string | undefined,
  start: (deviceId: string | undefined) => Promise<T>,
): Preview<T> {
  const [wanted, setWanted] = useState(initially);
  const [deviceId, setDeviceId] = useState(remembered);
  const [attempt, setAttempt] = useState(0);
  const [track, setTrack] = useState<T>();
  const [trouble, setTrouble] = useState<string>();
  /** The track that was handed over. */
  const released = useRef<T>(undefined);

  useEffect(() => {
    if (!wanted) return;
    let current = true;
    let running: T | undefined;
    const begin = async () => {
      if (!current) return;
      try {
        if (!hasDevices()) throw Object.assign(new Error(), { name: 'InsecureContext' });
        const started = await start(deviceId);
        // React's rules do not see that the clean-up below may run while we wait.
        if (!(current as boolean)) {
          started.stop();
          return;
        }
        running = started;
        setTrack(() => started);
        setTrouble(undefined);
      } catch (error) {
        if (current as boolean) setTrouble(deviceTrouble(kind, error));
      }
    };
    asking = asking.then(begin);
    return () => {
      current = false;
      if (running !== released.current) running?.stop();
      setTrack(undefined);
      setTrouble(undefined);
    };
  }, [wanted, deviceId, kind, start, attempt]);

  const again = useCallback(() => setAttempt((count) => count + 1), []);
  useRepair(kind, trouble !== undefined, again);

  const release = useCallback(() => {
    released.current = track;
    return track;
  }, [track]);

  const keep = useCallback(() => {
    released.current = undefined;
  }, []);

  return { wanted, setWanted, deviceId, setDeviceId, track, trouble, again, release, keep };
}

const startCamera = (deviceId: string | undefined) =>
  createLocalVideoTrack({ deviceId, resolution: VideoPresets.h720.resolution });

const startMicrophone = (deviceId: string | undefined) => createLocalAudioTrack({ deviceId });

export function useCameraPreview(initially: boolean, deviceId: string | undefined): Preview<LocalVideoTrack> {
  return usePreview('camera', initially, deviceId, startCamera);
}

export function useMicrophonePreview(initially: boolean, deviceId: string | undefined): Preview<LocalAudioTrack> {
  return usePreview('microphone', initially, deviceId, startMicrophone);
}

/** Tries again by itself when a permission is given or a device is plugged in. */
function useRepair(kind: 'camera' | 'microphone', broken: boolean, again: () => void): void {
  useEffect(() => {
    if (!broken || !hasDevices()) return;
    let status: PermissionStatus | undefined;
    let current = true;
    const look = () => {
      if (status?.state === 'granted') again();
    };
    const watch = async () => {
      // Not every browser knows these names.
      const found = await navigator.permissions.query({ name: kind });
      if (!current) return;
      status = found;
      status.addEventListener('change', look);
    };
    void watch().catch(() => undefined);
    navigator.mediaDevices.addEventListener('devicechange', again);
    return () => {
      current = false;
      status?.removeEventListener('change', look);
      navigator.mediaDevices.removeEventListener('devicechange', again);
    };
  }, [kind, broken, again]);
}

/** Absent on pages that are neither local nor encrypted, whatever the types say. */
function hasDevices(): boolean {
  return 'mediaDevices' in navigator;
}
