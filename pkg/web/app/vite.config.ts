import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vite';
import { finish } from './build/finish.ts';

const sdk = new URL('../sdk/src/index.ts', import.meta.url).pathname;

export default defineConfig({
  root: new URL('.', import.meta.url).pathname,
  plugins: [svelte({ configFile: new URL('./svelte.config.js', import.meta.url).pathname }), finish()],
  resolve: { alias: { '@pipit/sdk': sdk } },
  build: {
    outDir: '../dist',
    emptyOutDir: false, // finish.ts empties it, and leaves the committed placeholder
    target: ['es2020', 'chrome87', 'firefox102', 'safari15'],
    assetsInlineLimit: 0, // the CSP allows no data: for scripts and styles
    modulePreload: { polyfill: false }, // inline script, which the CSP forbids
    cssCodeSplit: true,
    reportCompressedSize: false,
    rolldownOptions: {
      output: {
        entryFileNames: 'assets/[name]-[hash].js',
        chunkFileNames: 'assets/[name]-[hash].js',
        assetFileNames: 'assets/[name]-[hash][extname]',
        // What every page needs is one file: on a slow phone each further one costs a turn of its own.
        codeSplitting: { groups: [{ name: 'base', test: /node_modules\/(svelte|esm-env|clsx)\/|\/web\/sdk\/src\/|\/src\/i18n\/i18n|\/src\/i18n\/(en|zh)\.ts|\/src\/state\/(session|credentials|notices|people|drafts)\b/ }] },
      },
    },
  },
});
