// The call: header, stage, chat, controls.

import { RoomAudioRenderer, RoomContext, StartAudio, useChat, useConnectionState, useParticipants } from '@livekit/components-react';
import { ConnectionState, type Room, RoomEvent } from 'livekit-client';
import { useEffect, useState } from 'react';

import { invitation } from './address';
import { ChatPanel } from './chat';
import { Controls } from './controls';
import { Check, Link, Mark } from './icons';
import { Stage } from './stage';
import { people } from './words';

export function CallPage({ room, name }: { room: Room; name: string }) {
  useEffect(() => {
    const title = document.title;
    document.title = `${name} · Pipemesh`;
    return () => {
      document.title = title;
    };
  }, [name]);
  return (
    <RoomContext.Provider value={room}>
      <Call room={room} name={name} />
    </RoomContext.Provider>
  );
}

function Call({ room, name }: { room: Room; name: string }) {
  const [chatOpen, setChatOpen] = useState(false);
  const [seen, setSeen] = useState(0);
  const { chatMessages, send, isSending } = useChat();
  const participants = useParticipants();
  const unread = chatOpen ? 0 : chatMessages.length - seen;

  const toggleChat = () => {
    setSeen(chatMessages.length);
    setChatOpen(!chatOpen);
  };

  return (
    <div className={chatOpen ? 'call with-chat' : 'call'}>
      <header className="call-header">
        <Mark />
        <h1>{name}</h1>
        <span className="count">{people(participants.length)}</span>
        <CopyLink name={name} />
      </header>
      <main className="call-main">
        <ConnectionNotice />
        <Stage />
        <Announcer room={room} />
      </main>
      {chatOpen && (
        <ChatPanel messages={chatMessages} sending={isSending} onSend={send} onClose={toggleChat} />
      )}
      <Controls chatOpen={chatOpen} unread={unread} onChat={toggleChat} />
      <RoomAudioRenderer />
      <StartAudio className="primary start-audio" label="Turn the sound on" />
    </div>
  );
}

function ConnectionNotice() {
  const state = useConnectionState();
  const lost = state === ConnectionState.Reconnecting || state === ConnectionState.SignalReconnecting;
  return (
    <div role="status" className="connection">
      {lost && <p>Reconnecting… The call goes on when the network is back.</p>}
      {state === ConnectionState.Connecting && <p>Connecting…</p>}
    </div>
  );
}

function CopyLink({ name }: { name: string }) {
  const [copied, setCopied] = useState(false);
  useEffect(() => {
    if (!copied) return;
    const timer = setTimeout(() => setCopied(false), 2000);
    return () => clearTimeout(timer);
  }, [copied]);
  const copy = async () => {
    await navigator.clipboard.writeText(invitation(window.location.href, name));
    setCopied(true);
  };
  // Only secure pages have a clipboard, whatever the types say.
  if (!('clipboard' in navigator)) return null;
  return (
    <button type="button" className="quiet" onClick={() => void copy().catch(() => undefined)}>
      {copied ? <Check /> : <Link />}
      <span aria-live="polite">{copied ? 'Copied' : 'Copy link'}</span>
    </button>
  );
}

/** Says who comes and goes to those who do not see it. */
function Announcer({ room }: { room: Room }) {
  const [words, setWords] = useState('');
  useEffect(() => {
    const came = (who: { name?: string; identity: string }) => setWords(`${who.name || who.identity} joined`);
    const left = (who: { name?: string; identity: string }) => setWords(`${who.name || who.identity} left`);
    room.on(RoomEvent.ParticipantConnected, came).on(RoomEvent.ParticipantDisconnected, left);
    return () => {
      room.off(RoomEvent.ParticipantConnected, came).off(RoomEvent.ParticipantDisconnected, left);
    };
  }, [room]);
  return (
    <p className="unseen" role="log">
      {words}
    </p>
  );
}
