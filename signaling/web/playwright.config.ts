import { defineConfig } from '@playwright/test';

// Test results lie with all other build output.
const target = '../../target/e2e';

export default defineConfig({
  testDir: 'e2e',
  testMatch: '*.spec.ts',
  globalSetup: './e2e/harness/setup.ts',
  outputDir: `${target}/output`,
  reporter: [['list'], ['json', { outputFile: `${target}/results.json` }]],
  // Two cores encode, decode and forward: one test at a time, and none is tried twice.
  workers: 1,
  fullyParallel: false,
  retries: 0,
  timeout: 90_000,
  expect: { timeout: 15_000 },
  forbidOnly: true,
});
