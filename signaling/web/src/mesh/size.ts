// How wide an element is, as it changes.

import { useCallback, useRef, useState } from 'react';

/** Give `measure` as its `ref`; 0 until it is known. */
export function useWidth(): { width: number; measure: (element: HTMLElement | null) => void } {
  const [width, setWidth] = useState(0);
  const observer = useRef<ResizeObserver>(null);
  const measure = useCallback((element: HTMLElement | null) => {
    observer.current?.disconnect();
    observer.current = null;
    if (!element) return;
    const watching = new ResizeObserver(([entry]) => {
      if (entry) setWidth(Math.floor(entry.contentRect.width));
    });
    watching.observe(element);
    observer.current = watching;
  }, []);
  return { width, measure };
}
