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
    rolldownOptions: { output: { entryFileNames: 'assets/[name]-[hash].js', chunkFileNames: 'assets/[name]-[hash].js', assetFileNames: 'assets/[name]-[hash][extname]' } },
  },
});
