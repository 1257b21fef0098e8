import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { spawn } from 'node:child_process';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { bin, password, Server } from '../../../../tests/e2e/server';

/** Against the real server: the bot of the README as it stands there, and a client that lives through kill -9. */
const root = new URL('../../../../', import.meta.url).pathname;
let server: Server;

beforeAll(async () => {
  mkdirSync(bin, { recursive: true });
  execFileSync(process.env.GO ?? 'go', ['build', '-o', '.build/e2e/', './cmd/pipitd', './cmd/pipit'], { cwd: root, stdio: 'inherit', env: { ...process.env, CGO_ENABLED: '0' } });
  server = await Server.start('--limits-sends-per-minute', '100000');
  server.tenant('oakhill', 'Oakhill School');
  server.people({ username: 'ann', name: 'Ann Lee', role: 'owner' }, { username: 'echo', name: 'Echo', role: 'staff' });
}, 180_000);
afterAll(() => server?.close());

test('the bot of the README answers', async () => {
  const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8');
  const code = /```js\n([\s\S]*?)```/.exec(readme)![1]!;
  expect(code.trim().split('\n').length).toBeLessThanOrEqual(20);
  // A program of its own, with the SDK as it is published, in plain Node.
  const sdk = new URL('..', import.meta.url).pathname;
  execFileSync(process.execPath, [join(sdk, '../node_modules/typescript/bin/tsc'), '-p', sdk], { stdio: 'inherit' });
  const dir = mkdtempSync(join(sdk, '../node_modules/.bot-'));
  writeFileSync(join(dir, 'bot.mjs'), code);
  const bot = spawn(process.execPath, ['bot.mjs'], { cwd: dir, env: { ...process.env, PIPIT_URL: server.url, PIPIT_USER: 'echo', PIPIT_PASSWORD: password }, stdio: ['ignore', 'inherit', 'inherit'] });
  try {
    const ann = await server.robot('ann', { followAll: true });
    const answers: string[] = [];
    ann.on('entry', (e) => e.by !== ann.me && e.text && answers.push(e.text));
    const echo = (await ann.request('user.search', { query: 'echo' })).users[0]!;
    // What was said before a bot first came is not its business: wait until it is there.
    await expect.poll(async () => (await ann.request('presence.watch', { users: [echo.id] })).users[0]?.[1], { timeout: 30_000 }).toBe('online');
    const { id } = await ann.request('conversation.direct', { user: echo.id });
    await ann.send(id, 'Is anybody there?');
    await expect.poll(() => answers, { timeout: 30_000 }).toEqual(['You wrote: Is anybody there?']);
    await ann.stop();
  } finally {
    bot.kill();
    rmSync(dir, { recursive: true });
  }
  expect(existsSync(join(sdk, 'dist/index.js'))).toBe(true);
});

test('600 messages over two kill -9: each is stored once, and a follower gets each once and in order', async () => {
  const ann = await server.robot('ann');
  const echo = await server.robot('echo', { followAll: true });
  const { id } = await ann.request('conversation.direct', { user: echo.me });
  const got: string[] = [];
  echo.on('entry', (e) => e.text?.startsWith('n') && got.push(e.text));
  const want: string[] = [];
  const sent: Array<Promise<unknown>> = [];
  for (let i = 0; i < 600; i++) {
    want.push(`n${i}`);
    sent.push(ann.send(id, `n${i}`));
    if (i === 200 || i === 400) {
      await new Promise((r) => setTimeout(r, 50));
      await server.kill();
      await server.run();
    }
  }
  await Promise.all(sent);
  await expect.poll(() => got.length, { timeout: 60_000 }).toBe(600);
  expect(got).toEqual(want);
  await ann.stop();
  await echo.stop();
}, 120_000);
