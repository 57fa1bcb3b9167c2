// Where the tiles are: a grid of people, or a shared screen with people beside it.

import { type TrackReferenceOrPlaceholder, useTracks } from '@livekit/components-react';
import { Track } from 'livekit-client';
import { type CSSProperties, useLayoutEffect, useRef, useState } from 'react';

import { type Size, fit } from './grid';
import { Tile } from './tile';

const GAP = 10;

export function Stage() {
  const tracks: TrackReferenceOrPlaceholder[] = useTracks(
    [
      { source: Track.Source.Camera, withPlaceholder: true },
      { source: Track.Source.ScreenShare, withPlaceholder: false },
    ],
    { onlySubscribed: false },
  );
  const people = tracks.filter((track) => track.source === Track.Source.Camera);
  const screen = tracks.findLast((track) => track.source === Track.Source.ScreenShare);
  if (!screen) return <PeopleGrid people={people} />;
  return (
    <div className="stage focus">
      <Tile track={screen} />
      <ul className="strip" aria-label="People">
        {people.map((track) => (
          <li key={track.participant.identity}>
            <Tile track={track} />
          </li>
        ))}
      </ul>
    </div>
  );
}

function PeopleGrid({ people }: { people: TrackReferenceOrPlaceholder[] }) {
  const [space, element] = useSize();
  const { columns, tile } = fit(people.length, space, GAP);
  // Too many for the space: tiles keep a size at which faces are faces, and the grid scrolls.
  const width = Math.max(tile.width, Math.min(space.width, 150));
  const height = Math.max(tile.height, 100);
  const style = {
    '--columns': width > tile.width ? Math.max(1, Math.floor((space.width + GAP) / (width + GAP))) : columns,
    '--tile-width': `${width}px`,
    '--tile-height': `${height}px`,
  } as CSSProperties;
  return (
    <div className="stage" ref={element}>
      <ul className="people" style={style} aria-label="People">
        {people.map((track) => (
          <li key={track.participant.identity}>
            <Tile track={track} />
          </li>
        ))}
      </ul>
    </div>
  );
}

function useSize() {
  const [size, setSize] = useState<Size>({ width: 0, height: 0 });
  const element = useRef<HTMLDivElement>(null);
  useLayoutEffect(() => {
    if (!element.current) return;
    const observer = new ResizeObserver(([entry]) => {
      if (entry) setSize({ width: entry.contentRect.width, height: entry.contentRect.height });
    });
    observer.observe(element.current);
    return () => observer.disconnect();
  }, []);
  return [size, element] as const;
}
