// Starts the operator's page.

import { StrictMode } from 'react';
import { createRoot } from 'react-dom/client';

import { Boundary } from '../boundary';
import { App } from './app';
import '../style/base.css';
import '../style/mesh.css';

const root = document.getElementById('root');
if (root) {
  createRoot(root).render(
    <StrictMode>
      <Boundary words="The mesh goes on without it. Reloading shows it again.">
        <App />
      </Boundary>
    </StrictMode>,
  );
}
