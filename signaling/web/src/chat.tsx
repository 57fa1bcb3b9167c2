// Messages beside the call. They live as long as the page does.

import { type KeyboardEvent, type SyntheticEvent, useEffect, useRef, useState } from 'react';

import type { Message } from './call/messages';
import { Close, Send } from './icons';

interface Props {
  messages: Message[];
  onSend: (text: string) => Promise<void>;
  onClose: () => void;
}

export function ChatPanel({ messages, onSend, onClose }: Props) {
  const [draft, setDraft] = useState('');
  const [trouble, setTrouble] = useState(false);
  const [sending, setSending] = useState(false);
  const list = useRef<HTMLDivElement>(null);
  // Their number stays the same once the oldest go.
  const last = messages.at(-1)?.id;

  useEffect(() => {
    list.current?.scrollTo({ top: list.current.scrollHeight });
  }, [last]);

  const submit = async (event: SyntheticEvent) => {
    event.preventDefault();
    const text = draft.trim();
    if (!text || sending) return;
    setDraft('');
    setSending(true);
    try {
      await onSend(text);
      setTrouble(false);
    } catch {
      setDraft(text);
      setTrouble(true);
    }
    setSending(false);
  };
  const closeOnEscape = (event: KeyboardEvent) => {
    if (event.key === 'Escape') onClose();
  };

  return (
    <aside className="panel chat" aria-label="Chat" onKeyDown={closeOnEscape}>
      <header>
        <h2>Chat</h2>
        <button type="button" className="icon-button" onClick={onClose} aria-label="Close the chat">
          <Close />
        </button>
      </header>
      <div ref={list} className="messages" role="log" tabIndex={0} aria-label="Messages">
        {messages.length === 0 && <p className="hint">Messages reach everybody who is in the room now.</p>}
        <ol>
          {messages.map((message, index) => (
            <Line key={message.id} message={message} previous={messages[index - 1]} />
          ))}
        </ol>
      </div>
      {trouble && (
        <p className="trouble" role="alert">
          The message was not sent. Try again.
        </p>
      )}
      <form onSubmit={(event) => void submit(event)}>
        <input
          value={draft}
          onChange={(event) => setDraft(event.target.value)}
          placeholder="Write a message"
          aria-label="Message"
          maxLength={2000}
          autoComplete="off"
          autoFocus
        />
        <button type="submit" className="icon-button strong" disabled={!draft.trim() || sending} aria-label="Send">
          <Send />
        </button>
      </form>
    </aside>
  );
}

const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' });

function Line({ message, previous }: { message: Message; previous: Message | undefined }) {
  const { identity, name, own, at, text } = message;
  const follows = previous?.identity === identity && at - previous.at < 120_000;
  return (
    <li className={own ? 'own' : undefined}>
      {!follows && (
        <p className="from">
          <b>{own ? 'You' : name}</b> <time dateTime={new Date(at).toISOString()}>{clock.format(at)}</time>
        </p>
      )}
      <p className="text">{text}</p>
    </li>
  );
}
