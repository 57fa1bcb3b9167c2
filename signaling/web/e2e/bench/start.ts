// Runs in the page, before anything else: notes when it was painted and when it could be used.

export interface Start {
  /** Of the page and all it loaded until then, as sent. */
  bytes: number;
  files: number;
  /** Since the page was asked for, in milliseconds: something is seen first. */
  painted: number;
  /** What one does first can be done, and no task of more than 50 ms was at work after that for a second. */
  interactive: number;
  /** What tasks took beyond 50 ms until then, together. */
  blocked: number;
}

declare global {
  interface Window {
    start?: { settled?: Start };
  }
}

/** Self-contained: only its text gets into the page. `first`: what one does first, as a selector. */
export function watchStart(first: string): void {
  const QUIET_MS = 1000;
  const start: { settled?: Start } = {};
  window.start = start;
  const tasks: { from: number; to: number }[] = [];
  new PerformanceObserver((list) => {
    for (const { startTime, duration } of list.getEntries()) tasks.push({ from: startTime, to: startTime + duration });
  }).observe({ type: 'longtask', buffered: true });

  let usable: number | undefined;
  const look = () => {
    if (usable === undefined && document.querySelector(first)) usable = performance.now();
    const painted = performance.getEntriesByName('first-contentful-paint')[0]?.startTime;
    if (usable === undefined || painted === undefined) return void requestAnimationFrame(look);
    const interactive = Math.max(usable, painted, ...tasks.map(({ to }) => to));
    if (performance.now() - interactive < QUIET_MS) return void setTimeout(look, QUIET_MS / 10);
    const loaded = [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')] as PerformanceResourceTiming[];
    const files = loaded.filter(({ initiatorType, startTime }) => initiatorType !== 'fetch' && startTime <= interactive);
    start.settled = {
      bytes: files.reduce((sum, { encodedBodySize }) => sum + encodedBodySize, 0),
      files: files.length,
      painted,
      interactive,
      blocked: tasks.reduce((sum, { from, to }) => sum + Math.max(0, to - from - 50), 0),
    };
  };
  requestAnimationFrame(look);
}
