// Before all tests: bundles the page's driver together with livekit-client as it comes from the package.

import { fileURLToPath } from 'node:url';
import { dirname } from 'node:path';

import { build } from 'vite';

import { DRIVER } from './scene';

export default async function setup(): Promise<void> {
  await build({
    configFile: false,
    logLevel: 'warn',
    build: {
      outDir: dirname(DRIVER),
      emptyOutDir: true,
      minify: false,
      target: 'es2022',
      copyPublicDir: false,
      lib: {
        entry: fileURLToPath(new URL('../page/driver.ts', import.meta.url)),
        formats: ['iife'],
        name: 'pipemesh',
        fileName: () => 'driver.js',
      },
    },
  });
}
