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
  start: (deviceId: string | undefined) => Promise<T>,
): Preview<T> {
  const [wanted, setWanted] = useState(initially);
  const [deviceId, setDeviceId] = useState<string>();
  const [track, setTrack] = useState<T>();
  const [trouble, setTrouble] = useState<string>();
  const released = useRef(false);

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
      if (!released.current) running?.stop();
      setTrack(undefined);
      setTrouble(undefined);
    };
  }, [wanted, deviceId, kind, start]);

  const release = useCallback(() => {
    released.current = true;
    return track;
  }, [track]);

  const keep = useCallback(() => {
    released.current = false;
  }, []);

  return { wanted, setWanted, deviceId, setDeviceId, track, trouble, release, keep };
}

const startCamera = (deviceId: string | undefined) =>
  createLocalVideoTrack({ deviceId, resolution: VideoPresets.h720.resolution });

const startMicrophone = (deviceId: string | undefined) => createLocalAudioTrack({ deviceId });

export function useCameraPreview(initially: boolean): Preview<LocalVideoTrack> {
  return usePreview('camera', initially, startCamera);
}

export function useMicrophonePreview(initially: boolean): Preview<LocalAudioTrack> {
  return usePreview('microphone', initially, startMicrophone);
}

/** Absent on pages that are neither local nor encrypted, whatever the types say. */
function hasDevices(): boolean {
  return 'mediaDevices' in navigator;
}
