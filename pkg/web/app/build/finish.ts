/**
 * What a build adds to the bundler's output: a service worker that knows every
 * file of this build, and each file compressed, so that a Pi never compresses
 * anything while it serves.
 */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { brotliCompressSync, constants, gzipSync } from 'node:zlib';
import type { Plugin } from 'vite';

const compressible = /\.(js|css|html|svg|webmanifest|json)$/;
const placeholder = 'placeholder.txt';

export function finish(): Plugin {
  let dist = '';
  let source = '';
  return {
    name: 'pipit-finish',
    apply: 'build',
    configResolved(c) {
      dist = join(c.root, c.build.outDir);
      source = join(c.root, 'src');
    },
    buildStart() {
      for (const f of readdirSync(dist)) if (f !== placeholder) rmSync(join(dist, f), { recursive: true });
    },
    closeBundle() {
      const files = walk(dist).sort();
      // Only what the first load and the chat need; the admin console is fetched when it is opened.
      const shell = files.filter((f) => f.startsWith('assets/') && !/admin|setup/i.test(f));
      const version = createHash('sha256')
        .update(files.map((f) => f + hash(join(dist, f))).join('\n'))
        .digest('hex')
        .slice(0, 16);
      const worker = readFileSync(join(source, 'worker.js'), 'utf8')
        .replace("'VERSION'", JSON.stringify(version))
        .replace("['FILES']", JSON.stringify(['/', '/icon.svg', ...shell.map((f) => '/' + f)]));
      writeFileSync(join(dist, 'worker.js'), worker);
      for (const f of [...files, 'worker.js']) {
        if (!compressible.test(f)) continue;
        const bytes = readFileSync(join(dist, f));
        const params = { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length };
        const smaller: Array<[string, Uint8Array]> = [
          ['.br', brotliCompressSync(bytes, { params })],
          ['.gz', gzipSync(bytes, { level: 9 })],
        ];
        for (const [ext, b] of smaller) if (b.length < bytes.length) writeFileSync(join(dist, f + ext), b);
      }
    },
  };
}

function walk(dir: string, root = dir): string[] {
  return readdirSync(dir).flatMap((f) => {
    const path = join(dir, f);
    if (statSync(path).isDirectory()) return walk(path, root);
    return f === placeholder ? [] : [relative(root, path)];
  });
}

function hash(path: string): string {
  return createHash('sha256').update(readFileSync(path)).digest('hex');
}
