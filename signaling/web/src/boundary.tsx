// What is shown instead of a page in which something went wrong.

import { Component, type ReactNode } from 'react';

import { Mark } from './icons';

interface Props {
  /** What reloading does. */
  words: string;
  children: ReactNode;
}

/** A class, because React has no other way to learn of it. */
export class Boundary extends Component<Props, { failed: boolean }> {
  override state = { failed: false };

  static getDerivedStateFromError() {
    return { failed: true };
  }

  override render() {
    if (!this.state.failed) return this.props.children;
    return (
      <main className="notice">
        <Mark />
        <h1>Something went wrong in this page</h1>
        <p role="alert">{this.props.words}</p>
        <button className="primary" type="button" autoFocus onClick={() => window.location.reload()}>
          Reload
        </button>
      </main>
    );
  }
}
