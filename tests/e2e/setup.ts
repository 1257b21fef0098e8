/** Builds the commands once for all tests; the web client must have been built before (`make web`). */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';

export default function setup(): void {
  const root = new URL('../..', import.meta.url).pathname;
  if (!existsSync(`${root}pkg/web/dist/index.html`)) throw new Error('the web client is not built: run `make web` first');
  mkdirSync(`${root}.build/e2e`, { recursive: true });
  execFileSync(process.env.GO ?? 'go', ['build', '-o', '.build/e2e/', './cmd/pipitd', './cmd/pipit'], { cwd: root, stdio: 'inherit', env: { ...process.env, CGO_ENABLED: '0' } });
}
