// Messages beside the call. They live as long as the page does.

import type { ReceivedChatMessage } from '@livekit/components-react';
import { type KeyboardEvent, type SyntheticEvent, useEffect, useRef, useState } from 'react';

import { Close, Send } from './icons';

interface Props {
  messages: ReceivedChatMessage[];
  sending: boolean;
  onSend: ((text: string) => Promise<unknown>) | undefined;
  onClose: () => void;
}

export function ChatPanel({ messages, sending, onSend, onClose }: Props) {
  const [draft, setDraft] = useState('');
  const [trouble, setTrouble] = useState(false);
  const list = useRef<HTMLOListElement>(null);

  useEffect(() => {
    list.current?.scrollTo({ top: list.current.scrollHeight });
  }, [messages.length]);

  const submit = async (event: SyntheticEvent) => {
    event.preventDefault();
    const text = draft.trim();
    if (!text || !onSend) return;
    setDraft('');
    try {
      await onSend(text);
      setTrouble(false);
    } catch {
      setDraft(text);
      setTrouble(true);
    }
  };
  const closeOnEscape = (event: KeyboardEvent) => {
    if (event.key === 'Escape') onClose();
  };

  return (
    <aside className="chat" aria-label="Chat" onKeyDown={closeOnEscape}>
      <header>
        <h2>Chat</h2>
        <button type="button" className="icon-button" onClick={onClose} aria-label="Close the chat">
          <Close />
        </button>
      </header>
      <ol ref={list} role="log" tabIndex={0} aria-label="Messages">
        {messages.length === 0 && <li className="hint">Messages reach everybody who is in the room now.</li>}
        {messages.map((message, index) => (
          <Message key={message.id} message={message} previous={messages[index - 1]} />
        ))}
      </ol>
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

function Message({ message, previous }: { message: ReceivedChatMessage; previous: ReceivedChatMessage | undefined }) {
  const from = message.from;
  const own = from?.isLocal ?? false;
  const follows = previous?.from?.identity === from?.identity && message.timestamp - (previous?.timestamp ?? 0) < 120_000;
  return (
    <li className={own ? 'own' : undefined}>
      {!follows && (
        <p className="from">
          <b>{own ? 'You' : from?.name || from?.identity || 'Somebody'}</b> <time>{clock.format(message.timestamp)}</time>
        </p>
      )}
      <p className="text">{message.message}</p>
    </li>
  );
}
