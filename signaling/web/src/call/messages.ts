// Messages of a room, in the format of LiveKit's own pages.

import { type Room, type TextStreamReader } from 'livekit-client';
import { useCallback, useEffect, useState } from 'react';

const TOPIC = 'lk.chat';

/** More than anybody reads, and no more than a page can hold. */
const KEPT = 500;
const LONGEST = 10_000;

export interface Message {
  /** Counted by this page, as `at` is its own time: what senders say of either may be anything. */
  id: number;
  identity: string;
  name: string;
  own: boolean;
  at: number;
  text: string;
}

export interface Chat {
  messages: Message[];
  /** Of others, so far. */
  received: number;
  send: (text: string) => Promise<void>;
}

type Known = Pick<Chat, 'messages' | 'received'>;
type Said = Omit<Message, 'id'>;

/** With one message more, shortened to what a page can hold. */
export function withMessage({ messages, received }: Known, said: Said): Known {
  const id = (messages.at(-1)?.id ?? 0) + 1;
  const message = { ...said, id, text: said.text.slice(0, LONGEST) };
  return { messages: [...messages, message].slice(-KEPT), received: received + (said.own ? 0 : 1) };
}

export function useMessages(room: Room): Chat {
  const [{ messages, received }, setKnown] = useState<Known>({ messages: [], received: 0 });
  const add = useCallback((said: Said) => setKnown((known) => withMessage(known, said)), []);

  useEffect(() => {
    const receive = async (reader: TextStreamReader, { identity }: { identity: string }) => {
      const text = await reader.readAll();
      const name = room.getParticipantByIdentity(identity)?.name || identity;
      add({ identity, name, own: false, at: Date.now(), text });
    };
    room.registerTextStreamHandler(TOPIC, (reader, from) => void receive(reader, from).catch(() => undefined));
    return () => room.unregisterTextStreamHandler(TOPIC);
  }, [room, add]);

  const send = useCallback(
    async (text: string) => {
      await room.localParticipant.sendText(text, { topic: TOPIC });
      const { identity, name } = room.localParticipant;
      add({ identity, name: name || identity, own: true, at: Date.now(), text });
    },
    [room, add],
  );
  return { messages, received, send };
}
