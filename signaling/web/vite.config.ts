import react from '@vitejs/plugin-react';
import { defineConfig } from 'vitest/config';

export default defineConfig({
  plugins: [react()],
  build: {
    target: 'es2022',
    // Everything is a file of our own origin: the page is served under a strict content policy.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 1200,
  },
  server: {
    // `make run` in another terminal; this port is signaling's default.
    proxy: {
      '/demo': 'http://127.0.0.1:7880',
      '/rtt': 'http://127.0.0.1:7880',
      '/settings': 'http://127.0.0.1:7880',
      '/rtc': { target: 'http://127.0.0.1:7880', ws: true },
    },
  },
  test: {
    include: ['src/**/*.test.ts', 'e2e/**/*.test.ts'],
  },
});
