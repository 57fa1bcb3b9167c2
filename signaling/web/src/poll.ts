// Asks again and again: one question at a time, more rarely while it fails, never while nobody looks.

export interface Polled<T> {
  ask: (stop: AbortSignal) => Promise<T>;
  /** Milliseconds from an answer to the next question. */
  every: number;
  onAnswer: (answer: T) => void;
  onFailure: (error: unknown, retryMs: number) => void;
}

/** A failure doubles the pause, up to this. */
const LONGEST_PAUSE_MS = 15_000;

/** What is slow to answer is asked more rarely: for most of the time nobody works on our question. */
const REST = 2;

export class Poll<T> {
  private timer: ReturnType<typeof setTimeout> | undefined;
  private asking: AbortController | undefined;
  private failures = 0;
  private stopped = true;

  constructor(
    private readonly polled: Polled<T>,
    private readonly page: Pick<Document, 'hidden' | 'addEventListener' | 'removeEventListener'> = document,
  ) {}

  start(): void {
    this.stopped = false;
    this.page.addEventListener('visibilitychange', this.look);
    this.now();
  }

  stop(): void {
    this.stopped = true;
    this.page.removeEventListener('visibilitychange', this.look);
    this.rest();
    this.asking?.abort();
    this.asking = undefined;
  }

  /** Without a pause, unless it is being asked already. */
  now(): void {
    if (this.stopped || this.asking || this.page.hidden) return;
    this.rest();
    void this.question();
  }

  private readonly look = (): void => {
    if (this.page.hidden) this.rest();
    else this.now();
  };

  private async question(): Promise<void> {
    const asking = new AbortController();
    this.asking = asking;
    const begun = Date.now();
    let pause: number;
    try {
      const answer = await this.polled.ask(asking.signal);
      if (this.asking !== asking) return;
      this.failures = 0;
      pause = Math.max(this.polled.every, (Date.now() - begun) * REST);
      this.polled.onAnswer(answer);
    } catch (error) {
      if (this.asking !== asking) return;
      this.failures += 1;
      pause = Math.min(this.polled.every * 2 ** this.failures, LONGEST_PAUSE_MS);
      this.polled.onFailure(error, pause);
    }
    // Whoever is told may have stopped it.
    if (this.asking !== asking) return;
    this.asking = undefined;
    if (!this.page.hidden) this.timer = setTimeout(() => this.now(), pause);
  }

  private rest(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
  }
}
