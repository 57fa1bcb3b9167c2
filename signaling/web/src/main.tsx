// Starts the page.

import { StrictMode } from 'react';
import { createRoot } from 'react-dom/client';

import { App } from './app';
import './style/base.css';
import './style/lobby.css';
import './style/call.css';

const root = document.getElementById('root');
if (root) {
  createRoot(root).render(
    <StrictMode>
      <App />
    </StrictMode>,
  );
}
