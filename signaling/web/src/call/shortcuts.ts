// Keys that do what buttons do.

export const SHORTCUTS = {
  microphone: 'M',
  camera: 'V',
  share: 'S',
  hand: 'H',
  chat: 'C',
  people: 'P',
  view: 'G',
  details: 'D',
  previous: 'PageUp',
  next: 'PageDown',
  help: '?',
} as const;

export type Shortcut = keyof typeof SHORTCUTS;

/** As the list of them tells it. */
export const MEANINGS: [Shortcut, string][] = [
  ['microphone', 'Microphone on or off'],
  ['camera', 'Camera on or off'],
  ['share', 'Share the screen, or stop'],
  ['hand', 'Raise or lower the hand'],
  ['chat', 'Chat'],
  ['people', 'People'],
  ['view', 'Grid or focus'],
  ['details', 'Details of your connection'],
  ['previous', 'Previous page of people'],
  ['next', 'Next page of people'],
  ['help', 'Devices, and this list'],
];

interface Press {
  key: string;
  ctrlKey: boolean;
  altKey: boolean;
  metaKey: boolean;
  repeat: boolean;
}

/** Which keys what has the focus takes for itself. */
export type Taken = 'all' | 'paging' | 'none';

/** What a key means, unless it is taken. */
export function meaning(press: Press, taken: Taken): Shortcut | undefined {
  if (taken === 'all' || press.ctrlKey || press.altKey || press.metaKey || press.repeat) return undefined;
  const key = press.key.length === 1 ? press.key.toUpperCase() : press.key;
  if (taken === 'paging' && key.startsWith('Page')) return undefined;
  return (Object.keys(SHORTCUTS) as Shortcut[]).find((name) => SHORTCUTS[name] === key);
}

/** By what is in front, wherever the focus is, and by what has it: text takes letters, and lists that scroll take page keys. */
export function takenKeys(page: Document): Taken {
  const element = page.activeElement;
  if (page.querySelector('dialog[open]') ?? element?.closest('input, textarea, select, [contenteditable], [role=log]')) return 'all';
  return element?.closest('.details-rows, .roster') ? 'paging' : 'none';
}
