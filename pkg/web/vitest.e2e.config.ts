import { defineConfig } from 'vitest/config';

const here = (path: string) => new URL(path, import.meta.url).pathname;

/** The tests in a real browser against a real server (tests/e2e); their packages are installed here. */
export default defineConfig({
  root: here('../../tests/e2e'),
  cacheDir: here('./node_modules/.vite-e2e'),
  resolve: {
    alias: {
      '@pipit/sdk': here('./sdk/src/index.ts'),
      'playwright-core': here('./node_modules/playwright-core/index.mjs'),
      '@axe-core/playwright': here('./node_modules/@axe-core/playwright/dist/index.mjs'),
      ws: here('./node_modules/ws/wrapper.mjs'),
    },
  },
  test: {
    include: process.env.PIPIT_SCREENSHOTS ? ['screenshots.ts'] : ['**/*.e2e.ts'],
    globalSetup: here('../../tests/e2e/setup.ts'),
    testTimeout: 120_000,
    expect: { poll: { timeout: 30_000 } }, // a busy machine is no fault
    hookTimeout: 90_000,
    fileParallelism: false, // two cores, and one of them is the browser's
  },
});
