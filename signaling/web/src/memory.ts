// What this browser remembers of somebody's choices, from one visit to the next.

type Memory = Pick<Storage, 'getItem' | 'setItem'>;

/** Devices, and whether they are wanted; a region, where not the nearest is; how the call looks. */
export interface Choices {
  camera: boolean;
  microphone: boolean;
  cameraId?: string;
  microphoneId?: string;
  speakerId?: string;
  region?: string;
  /** People on one page of the grid at most. */
  perPage: number;
  /** Single keys as shortcuts disturb people who dictate. */
  shortcuts: boolean;
}

export const PER_PAGE = [4, 9, 16, 25, 49];

const KEY = 'pipemesh.choices';
const USUAL: Choices = { camera: true, microphone: true, perPage: 25, shortcuts: true };

export function recallChoices(memory: Memory): Choices {
  try {
    const told = JSON.parse(memory.getItem(KEY) ?? '{}') as Partial<Record<keyof Choices, unknown>>;
    const text = (value: unknown) => (typeof value === 'string' && value ? value : undefined);
    const flag = (value: unknown, usual: boolean) => (typeof value === 'boolean' ? value : usual);
    return {
      camera: flag(told.camera, USUAL.camera),
      microphone: flag(told.microphone, USUAL.microphone),
      cameraId: text(told.cameraId),
      microphoneId: text(told.microphoneId),
      speakerId: text(told.speakerId),
      region: text(told.region),
      perPage: PER_PAGE.find((count) => count === told.perPage) ?? USUAL.perPage,
      shortcuts: flag(told.shortcuts, USUAL.shortcuts),
    };
  } catch {
    return USUAL;
  }
}

/** Changes some of them. A browser that keeps nothing does not matter. */
export function rememberChoices(memory: Memory, changes: Partial<Choices>): void {
  try {
    memory.setItem(KEY, JSON.stringify({ ...recallChoices(memory), ...changes }));
  } catch {
    // Storage is full or forbidden.
  }
}
