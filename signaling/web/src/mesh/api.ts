// Asks the admin API, and says in which way that can fail.

import { type Mute, type NodeAnswer, type PipeAnswer, type Prospect, type Choice, type RoomAnswer, type RoomsAnswer, type TreeAnswer, listIn } from './answers';

/** Several nodes may have to be waited for. */
const LIMIT_MS = 10_000;

export type Failure =
  /** Nobody answers, or something else than the API does. */
  | 'unreachable'
  /** It asks for a token, or for another one. */
  | 'token'
  /** It does not answer pages under this name. */
  | 'refused'
  | 'missing'
  /** What it depends on does not answer. */
  | 'failed';

export class ApiError extends Error {
  constructor(
    readonly failure: Failure,
    message: string,
  ) {
    super(message);
  }
}

export class Api {
  constructor(
    private readonly token: string,
    private readonly ask: typeof fetch = (...request) => fetch(...request),
  ) {}

  async nodes(stop: AbortSignal): Promise<NodeAnswer[]> {
    return (await this.list('/nodes', 'nodes', stop)) as NodeAnswer[];
  }

  async pipes(stop: AbortSignal): Promise<{ pipes: PipeAnswer[]; mute: Mute[] }> {
    const answer = await this.get('/pipes', stop);
    if (!listIn(answer, 'pipes') || !listIn(answer, 'mute')) throw strange();
    return answer as { pipes: PipeAnswer[]; mute: Mute[] };
  }

  async rooms(from: number | null, stop: AbortSignal): Promise<RoomsAnswer> {
    const answer = await this.get(from === null ? '/rooms' : `/rooms?from=${from}`, stop);
    if (!listIn(answer, 'rooms')) throw strange();
    return answer as RoomsAnswer;
  }

  async room(name: string, stop: AbortSignal): Promise<RoomAnswer> {
    const answer = await this.get(`/rooms/${encodeURIComponent(name)}`, stop);
    if (!listIn(answer, 'members')) throw strange();
    return answer as RoomAnswer;
  }

  async tree(name: string, stop: AbortSignal): Promise<TreeAnswer> {
    const answer = await this.get(`/rooms/${encodeURIComponent(name)}/tree?format=json`, stop);
    if (!listIn(answer, 'tracks') || !listIn(answer, 'mute')) throw strange();
    return answer as TreeAnswer;
  }

  async placements(stop: AbortSignal): Promise<Choice[]> {
    return (await this.list('/placements', 'recent', stop)) as Choice[];
  }

  async prospect(room: string, region: string, stop: AbortSignal): Promise<Prospect> {
    const query = new URLSearchParams(region ? { room, region } : { room });
    const answer = await this.get(`/placements?${query.toString()}`, stop);
    if (!listIn(answer, 'nodes')) throw strange();
    return answer as Prospect;
  }

  async drain(node: string, drains: boolean): Promise<void> {
    await this.request(`/nodes/${encodeURIComponent(node)}/${drains ? 'drain' : 'undrain'}`, 'POST', AbortSignal.timeout(LIMIT_MS));
  }

  private async list(path: string, name: string, stop: AbortSignal): Promise<unknown[]> {
    const list = listIn(await this.get(path, stop), name);
    if (!list) throw strange();
    return list;
  }

  private get(path: string, stop: AbortSignal): Promise<unknown> {
    return this.request(path, 'GET', AbortSignal.any([stop, AbortSignal.timeout(LIMIT_MS)]));
  }

  private async request(path: string, method: string, signal: AbortSignal): Promise<unknown> {
    const headers: Record<string, string> = this.token ? { Authorization: `Bearer ${this.token}` } : {};
    let status: number;
    let text: string;
    try {
      const answer = await this.ask(path, { method, headers, signal, cache: 'no-store', credentials: 'omit', redirect: 'error' });
      status = answer.status;
      text = await answer.text();
    } catch (error) {
      const late = error instanceof DOMException && error.name === 'TimeoutError';
      throw new ApiError('unreachable', late ? `no answer within ${LIMIT_MS / 1000} s` : 'nobody answers');
    }
    const body = parse(text);
    if (status >= 200 && status < 300) {
      if (body === undefined) throw strange();
      return body;
    }
    throw new ApiError(failureOf(status), errorIn(body) ?? `it answers with status ${status}`);
  }
}

/** What can be sent as a header: a token has nothing else. */
export function canBeToken(text: string): boolean {
  return /^[\x21-\x7e]+$/.test(text);
}

function failureOf(status: number): Failure {
  switch (status) {
    case 401:
      return 'token';
    case 403:
      return 'refused';
    case 404:
      return 'missing';
    default:
      return 'failed';
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

function errorIn(body: unknown): string | undefined {
  if (typeof body !== 'object' || body === null) return undefined;
  const { error } = body as { error?: unknown };
  return typeof error === 'string' ? error : undefined;
}

function strange(): ApiError {
  return new ApiError('unreachable', 'what answers is not the admin API');
}
