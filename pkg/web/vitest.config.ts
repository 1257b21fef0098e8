import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vitest/config';

export default defineConfig({
  plugins: [svelte()],
  resolve: { alias: { '@pipit/sdk': new URL('./sdk/src/index.ts', import.meta.url).pathname }, conditions: ['browser'] },
  test: { include: ['sdk/test/**/*.test.ts', 'app/test/**/*.test.ts'], testTimeout: 60_000 },
});
