import { defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

// What measures time has the machine to itself; the rest runs three files at a time,
// because a browser and its server wait for one another two fifths of the time.
const alone = ['wake.e2e.ts', 'history.e2e.ts'];
const together = process.env.PIPIT_E2E === 'together';
const here = (path: string) => new URL(path, import.meta.url).pathname;

// The longest begin, so that the others are done beside them.
const longest = ['console', 'states', 'box'];
class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = (f: TestSpecification) => longest.findIndex((l) => f.moduleId.endsWith(`/${l}.e2e.ts`)) >>> 0; // -1, none of them, is last
    return files.sort((a, b) => rank(a) - rank(b));
  }
}

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
    include: process.env.PIPIT_SCREENSHOTS ? ['screenshots.ts'] : process.env.PIPIT_E2E === 'alone' ? alone : ['**/*.e2e.ts'],
    exclude: together ? alone : [],
    globalSetup: here('../../tests/e2e/setup.ts'),
    testTimeout: 240_000,
    expect: { poll: { timeout: 30_000 } }, // a busy machine is no fault
    hookTimeout: 180_000,
    sequence: { sequencer: LongestFirst },
    fileParallelism: together,
    maxWorkers: 3,
  },
});
