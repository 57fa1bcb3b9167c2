// Runs in the page, before anything else: notes when a join gets to its stations.

/** What happened in a page, each with its moment by the page's clock, in milliseconds. */
export interface Marks {
  /** The WebSocket was created; it opened; its first message, the JoinResponse, came. */
  upgrade?: number;
  open?: number;
  joinResponse?: number;
  /** The first description with a track in it was applied. */
  described?: number;
  /** ICE and DTLS of the connection that has the track. */
  connected?: number;
}

declare global {
  interface Window {
    marks: Marks;
  }
}

/** Self-contained: only its text gets into the page. */
export function watch(): void {
  const marks: Marks = {};
  window.marks = marks;
  const note = (what: keyof Marks) => (marks[what] ??= performance.now());

  window.WebSocket = class extends window.WebSocket {
    constructor(url: string | URL, protocols?: string | string[]) {
      note('upgrade');
      super(url, protocols);
      this.addEventListener('open', () => note('open'), { once: true });
      this.addEventListener('message', () => note('joinResponse'), { once: true });
    }
  };

  window.RTCPeerConnection = class extends window.RTCPeerConnection {
    private hasTrack = false;

    constructor(configuration?: RTCConfiguration) {
      super(configuration);
      this.addEventListener('track', () => {
        this.hasTrack = true;
        this.look();
      });
      this.addEventListener('connectionstatechange', () => this.look());
    }

    override async setRemoteDescription(description: RTCSessionDescriptionInit): Promise<void> {
      await super.setRemoteDescription(description);
      if (this.hasTrack) note('described');
    }

    private look(): void {
      if (this.hasTrack && this.connectionState === 'connected') note('connected');
    }
  };
}
