// Before the call: who, where, and how one looks and sounds.

import type { LocalTrack } from 'livekit-client';
import { type SyntheticEvent, useEffect, useState } from 'react';

import { type Preview, useCameraPreview, useDeviceList, useMicrophonePreview } from './devices';
import { Again, Camera, CameraOff, Mark, Microphone, MicrophoneOff } from './icons';
import { Level } from './level';
import { recallChoices, rememberChoices } from './memory';
import { type Survey, inWords, nearestOf } from './regions';
import { describeToken } from './token';
import { Picture } from './picture';

export interface Choice {
  room: string;
  name: string;
  token: string;
  /** Whether they are wanted, and nothing is known to be wrong with them. */
  camera: boolean;
  microphone: boolean;
  wantsCamera: boolean;
  wantsMicrophone: boolean;
  cameraId: string | undefined;
  microphoneId: string | undefined;
  tracks: LocalTrack[];
}

interface Props {
  room: string;
  name: string;
  token: string;
  needsToken: boolean;
  trouble: string | undefined;
  survey: Promise<Survey>;
  /** The region that the page's address asks for. */
  asked: string;
  /** Whether it worked; if so the tracks are the call's. */
  onJoin: (choice: Choice) => Promise<boolean>;
}

export function Lobby(props: Props) {
  const [room, setRoom] = useState(props.room);
  const [name, setName] = useState(props.name);
  const [token, setToken] = useState(props.token);
  const [joining, setJoining] = useState(false);
  const [choices] = useState(() => recallChoices(localStorage));
  const camera = useCameraPreview(choices.camera, choices.cameraId);
  const microphone = useMicrophonePreview(choices.microphone, choices.microphoneId);
  const described = describeToken(token.trim());
  const wantsToken = props.needsToken || props.token !== '';

  const submit = async (event: SyntheticEvent) => {
    event.preventDefault();
    setJoining(true);
    const tracks = [camera.release(), microphone.release()].filter((track) => track !== undefined);
    const joined = await props.onJoin({
      room: room.trim(),
      name: name.trim() || (described?.name ?? ''),
      token: token.trim(),
      // What is still starting is started in the call.
      camera: camera.wanted && camera.trouble === undefined,
      microphone: microphone.wanted && microphone.trouble === undefined,
      wantsCamera: camera.wanted,
      wantsMicrophone: microphone.wanted,
      cameraId: camera.deviceId,
      microphoneId: microphone.deviceId,
      tracks,
    });
    if (joined) return;
    camera.keep();
    microphone.keep();
    setJoining(false);
  };

  return (
    <main className="lobby">
      <header className="brand">
        <Mark />
        <span>Pipemesh</span>
      </header>
      <section className="frame" aria-label="Preview">
        {camera.track ? (
          <Picture track={camera.track} mirrored />
        ) : (
          <div className="empty">
            <p role="status">{camera.trouble ?? (camera.wanted ? 'Starting the camera…' : 'Camera is off')}</p>
            {camera.trouble && <TryAgain preview={camera} label="camera" />}
          </div>
        )}
        <div className="frame-bar">
          <Toggle preview={microphone} on={<Microphone />} off={<MicrophoneOff />} label="Microphone" />
          <Toggle preview={camera} on={<Camera />} off={<CameraOff />} label="Camera" />
        </div>
      </section>
      <form className="entry" onSubmit={(event) => void submit(event)}>
        <h1>Join a room</h1>
        <p className="lead">Everybody who enters the same name for the room meets there.</p>
        {props.trouble && (
          <p className="trouble" role="alert">
            {props.trouble}
          </p>
        )}
        {wantsToken && (
          <label>
            Token
            <textarea
              value={token}
              onChange={(event) => setToken(event.target.value)}
              rows={3}
              required
              spellCheck={false}
              autoComplete="off"
            />
            {described && <small>For the room “{described.room}”{described.name && `, as ${described.name}`}.</small>}
          </label>
        )}
        {!wantsToken && (
          <>
            <label>
              Your name
              <input
                value={name}
                onChange={(event) => setName(event.target.value)}
                autoComplete="name"
                maxLength={64}
                required
                autoFocus={!name}
              />
            </label>
            <label>
              Room
              <input
                value={room}
                onChange={(event) => setRoom(event.target.value)}
                autoComplete="off"
                maxLength={64}
                required
                autoFocus={name !== '' && !room}
              />
            </label>
          </>
        )}
        <RegionChoice survey={props.survey} asked={props.asked} />
        <button className="primary" type="submit" disabled={joining}>
          {joining ? 'Joining…' : 'Join'}
        </button>
      </form>
      <section className="devices" aria-label="Devices">
        <DeviceChoice kind="audioinput" label="Microphone" preview={microphone} />
        <DeviceChoice kind="videoinput" label="Camera" preview={camera} />
        <div className="sound">
          {microphone.track ? (
            <>
              <span>Say something</span>
              <Level track={microphone.track} />
            </>
          ) : (
            <p role="status">{microphone.trouble ?? (microphone.wanted ? 'Starting the microphone…' : 'Microphone is off')}</p>
          )}
          {microphone.trouble && <TryAgain preview={microphone} label="microphone" />}
        </div>
      </section>
    </main>
  );
}

interface ToggleProps {
  preview: Preview<unknown>;
  on: React.ReactNode;
  off: React.ReactNode;
  label: string;
}

function Toggle({ preview, on, off, label }: ToggleProps) {
  const { wanted, setWanted } = preview;
  return (
    <button
      type="button"
      className="round"
      aria-pressed={wanted}
      aria-label={label}
      title={wanted ? `Turn the ${label.toLowerCase()} off` : `Turn the ${label.toLowerCase()} on`}
      onClick={() => setWanted(!wanted)}
    >
      {wanted ? on : off}
    </button>
  );
}

function TryAgain({ preview, label }: { preview: Preview<unknown>; label: string }) {
  return (
    <button type="button" className="quiet" onClick={preview.again} aria-label={`Try again with the ${label}`}>
      <Again />
      Try again
    </button>
  );
}

/** Where to join; if there is a choice. */
function RegionChoice({ survey, asked }: { survey: Promise<Survey>; asked: string }) {
  const [known, setKnown] = useState<Survey>();
  const [region, setRegion] = useState(() => asked || (recallChoices(localStorage).region ?? ''));
  useEffect(() => {
    let current = true;
    void survey.then((found) => {
      if (current) setKnown(found);
    });
    return () => {
      current = false;
    };
  }, [survey]);
  const list = known ? inWords(known) : [];
  const nearest = known && list.find((it) => it.region === nearestOf(known));
  const isListed = region === '' || list.some((it) => it.region === region);
  const choose = (chosen: string) => {
    setRegion(chosen);
    rememberChoices(localStorage, { region: chosen });
  };
  return (
    <label className="region">
      Region
      <select value={region} disabled={asked !== '' || !known || (isListed && list.length < 2)} onChange={(event) => choose(event.target.value)}>
        <option value="">{known ? (nearest ? `Nearest: ${nearest.words}` : 'Nearest') : 'Measuring…'}</option>
        {!isListed && <option value={region}>{region}</option>}
        {list.map((it) => (
          <option key={it.region} value={it.region}>
            {it.words}
          </option>
        ))}
      </select>
    </label>
  );
}

interface DeviceChoiceProps {
  kind: MediaDeviceKind;
  label: string;
  preview: Preview<LocalTrack>;
}

function DeviceChoice({ kind, label, preview }: DeviceChoiceProps) {
  const devices = useDeviceList(kind, preview.track);
  const current = preview.deviceId ?? preview.track?.mediaStreamTrack.getSettings().deviceId ?? '';
  return (
    <label>
      {label}
      <select
        value={current}
        disabled={devices.length === 0}
        onChange={(event) => preview.setDeviceId(event.target.value)}
      >
        {devices.length === 0 && <option value="">None found</option>}
        {devices.map((device, index) => (
          <option key={device.deviceId} value={device.deviceId}>
            {device.label || `${label} ${index + 1}`}
          </option>
        ))}
      </select>
    </label>
  );
}
