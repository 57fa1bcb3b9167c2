import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { constants, gzipSync } from 'node:zlib';

import react from '@vitejs/plugin-react';
import type { Plugin } from 'vite';
import { defineConfig } from 'vitest/config';

/** Beside each file a compressed one, which signaling sends to those who can unpack it. */
function compressed(): Plugin {
  return {
    name: 'compressed',
    apply: 'build',
    writeBundle({ dir = '' }) {
      for (const name of readdirSync(dir, { recursive: true, encoding: 'utf8' })) {
        if (!/\.(html|js|css|svg)$/.test(name)) continue;
        const file = join(dir, name);
        writeFileSync(`${file}.gz`, gzipSync(readFileSync(file), { level: constants.Z_BEST_COMPRESSION }));
      }
    },
  };
}

export default defineConfig({
  plugins: [react(), compressed()],
  build: {
    target: 'es2022',
    // Everything is a file of our own origin: the page is served under a strict content policy.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    // The client, and the operator's page. What only the latter needs is called after it.
    rollupOptions: { input: ['index.html', 'mesh.html'] },
    chunkSizeWarningLimit: 1200,
  },
  server: {
    // `make run` in another terminal; this port is signaling's default.
    proxy: {
      '/demo': 'http://127.0.0.1:7880',
      '^/rooms/[^/]+/paths': 'http://127.0.0.1:7880',
      '/rtt': 'http://127.0.0.1:7880',
      '/settings': 'http://127.0.0.1:7880',
      '^/(nodes|pipes|placements|rooms)(/|\\?|$)': 'http://127.0.0.1:7890',
      '/rtc': { target: 'http://127.0.0.1:7880', ws: true },
    },
  },
  test: {
    include: ['src/**/*.test.ts', 'e2e/**/*.test.ts'],
  },
});
