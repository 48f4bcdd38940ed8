/**
 * Builds the console. dist/site is laid out like the URLs, since Workers Static Assets serves it as it is:
 * /console/index.html, /console/assets/*, and _headers at its root.
 */
import { join } from 'node:path';
import { defineConfig } from 'vite';

const root = join(import.meta.dirname, 'console');

export default defineConfig({
  root,
  publicDir: join(root, 'public'),
  build: {
    outDir: join(import.meta.dirname, 'dist', 'site'),
    // `wrangler dev` does not notice a folder that is removed and made again.
    emptyOutDir: true,
    assetsDir: 'console/assets',
    // The page's policy admits no data: URL.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    rolldownOptions: { input: join(root, 'console', 'index.html') },
  },
});
