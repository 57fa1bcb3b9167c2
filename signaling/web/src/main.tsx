// Starts the page.

import { StrictMode } from 'react';
import { createRoot } from 'react-dom/client';

import { App } from './app';
import { Boundary } from './boundary';
import './style/base.css';
import './style/lobby.css';
import './style/call.css';

const root = document.getElementById('root');
if (root) {
  createRoot(root).render(
    <StrictMode>
      <Boundary words="Until it is reloaded, others in the call may still see and hear you. Reloading brings you back.">
        <App />
      </Boundary>
    </StrictMode>,
  );
}
