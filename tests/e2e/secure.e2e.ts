/** The move from HTTP to HTTPS, in a browser that trusts the box's own authority as a person makes it: by importing its root. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium, type Browser } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { accessible, clean, composer, desktop, enter, launchOptions, log, open, say } from './browser';
import { freePort, Server } from './server';

const host = 'oakhill.local';
let server: Server;
let tls = 0;
let home = '';
const browsers: Browser[] = [];

beforeAll(async () => {
  tls = await freePort();
  server = await Server.start('--listen-tls', `127.0.0.1:${tls}`);
  writeFileSync(join(server.dir, 'd', 'names'), `${host}\n`);
  await server.kill();
  await server.run(); // the certificate has that name now
  server.tenant('oakhill', 'Oakhill School');
  server.people({ username: 'ann', name: 'Ann Lee', role: 'owner' }, { username: 'bob', name: 'Bob Ito', role: 'staff' });
  home = mkdtempSync(join(tmpdir(), 'pipit-e2e-home-'));
  const ann = await server.robot('ann');
  const bob = (await ann.request('user.search', { query: 'bob' })).users[0]!.id;
  await ann.request('conversation.create', { kind: 'group', title: 'Class 5a', members: [bob], key: 'k' });
  await ann.stop();
}, 120_000);
afterAll(async () => {
  for (const b of browsers) await b.close();
  await server?.close();
  if (home) rmSync(home, { recursive: true, force: true });
});

/** A browser with a home of its own, in whose store of authorities the box's root is, or is not. */
async function browser(trusts: boolean): Promise<Browser> {
  const dir = join(home, trusts ? 'trusts' : 'new');
  const db = join(dir, '.pki', 'nssdb');
  mkdirSync(db, { recursive: true });
  execFileSync('certutil', ['-d', `sql:${db}`, '-N', '--empty-password']);
  if (trusts) {
    const pem = await fetch(`${server.url}/ca.pem`).then((r) => r.text());
    writeFileSync(join(dir, 'ca.pem'), pem);
    execFileSync('certutil', ['-d', `sql:${db}`, '-A', '-t', 'C,,', '-n', 'Pipit', '-i', join(dir, 'ca.pem')]);
  }
  const o = launchOptions();
  const b = await chromium.launch({ ...o, args: [...o.args, `--host-resolver-rules=MAP ${host} 127.0.0.1`], env: { ...process.env, HOME: dir, XDG_DATA_HOME: join(dir, '.local/share'), XDG_CONFIG_HOME: join(dir, '.config') } as Record<string, string> });
  browsers.push(b);
  return b;
}

const at = () => `http://${host}:${server.port}`;

test('a device that trusts the box is asked, and takes drafts and what was not sent along', async () => {
  const ctx = await (await browser(true)).newContext({ locale: 'en-GB', ...desktop });
  const page = await open(server, undefined, ctx, at(), [tls]);
  expect(await page.evaluate(() => isSecureContext)).toBe(false);
  await page.getByText('This device trusts this server.').waitFor();
  await accessible(page, 'sign-in with the offer');
  await enter(page, 'ann');
  await page.getByRole('link', { name: /Class 5a/ }).click();
  // It asks, and does nothing by itself; and "not now" is kept.
  await page.getByRole('button', { name: 'Not now' }).click();
  await page.reload();
  await composer(page).waitFor();
  await page.waitForTimeout(1000);
  expect(await page.getByText('This device trusts this server.').count()).toBe(0);
  expect(page.url()).toContain('http://');
  await page.evaluate(() => localStorage.removeItem('pipit:secure-asked'));
  await page.reload();
  await page.getByText('This device trusts this server.').waitFor();
  await accessible(page, 'conversation with the offer');

  // One text waits in the outbox, as when the box is busy; one is half written.
  await page.evaluate(() => {
    (window as any).send = WebSocket.prototype.send;
    WebSocket.prototype.send = function (text) {
      if (!String(text).includes('message.send')) (window as any).send.call(this, text);
    };
  });
  await say(page, 'written before the move');
  await log(page).getByLabel('Waiting to be sent').waitFor();
  await composer(page).fill('half a tho');
  await page.getByRole('button', { name: 'Move there' }).click();
  await page.waitForURL((u) => u.protocol === 'https:');
  await page.getByText('You are at the secure address now').waitFor();
  expect(page.url()).not.toContain('moved');
  await accessible(page, 'sign-in after the move');
  await enter(page, 'ann');
  expect(await page.evaluate(() => isSecureContext)).toBe(true);
  await log(page).getByText('written before the move').waitFor();
  await expect.poll(() => log(page).getByLabel('Waiting to be sent').count()).toBe(0);
  expect(await composer(page).inputValue()).toBe('half a tho');
  // The other address still has it in its own outbox: it goes once all the same.
  const back = await open(server, undefined, ctx, at(), [tls]);
  await back.getByRole('link', { name: /Class 5a/ }).click();
  await expect.poll(() => log(back).getByLabel('Waiting to be sent').count()).toBe(0);
  const robot = await server.robot('bob');
  const id = [...robot.conversations.keys()][0]!;
  expect((await robot.history(id, {}, 50)).entries.filter((e) => e.text === 'written before the move').length).toBe(1);
  await robot.stop();

  // A link that somebody else made brings nothing in.
  const evil = btoa(JSON.stringify({ nonce: 'ab', hash: '', language: null, theme: null, drafts: { [`pipit:draft:x`]: 'evil' }, outbox: [] })).replace(/=+$/, '');
  await page.goto('about:blank');
  await page.goto(`https://${host}:${tls}/#/moved/${evil}`);
  await page.locator('.shell').waitFor();
  expect(await page.evaluate(() => localStorage.getItem('pipit:draft:x'))).toBe(null);
  clean(page, back);
  await ctx.close();
});

test('a device that does not trust the box hears nothing of it', async () => {
  const ctx = await (await browser(false)).newContext({ locale: 'en-GB', ...desktop });
  const page = await open(server, undefined, ctx, at(), [tls]);
  // The page before the reload may have asked as well, and its question is broken off by it.
  const refused = page.waitForEvent('requestfailed', (r) => r.url().startsWith(`https://${host}:${tls}/v1/trusted`) && /CERT/.test(r.failure()?.errorText ?? ''));
  await page.reload();
  await refused;
  await enter(page, 'ann');
  await page.waitForTimeout(500);
  expect(await page.getByText('This device trusts this server.').count()).toBe(0);
  clean(page);
  await ctx.close();
});
