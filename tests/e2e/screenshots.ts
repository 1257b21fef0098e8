/**
 * `make screenshots`: each page, on a phone and a desktop, light and dark, in
 * Chinese and English, into .build/screenshots/. They are for people to look at;
 * nothing compares them.
 */
import { mkdirSync } from 'node:fs';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, test } from 'vitest';
import { clean, desktop, enter, log, open, phone, shut } from './browser';
import { school, type School } from './school';
import { Server } from './server';

const out = new URL('../../.build/screenshots/', import.meta.url).pathname;
let s: School;
let fresh: Server; // nobody has set it up
beforeAll(async () => {
  mkdirSync(out, { recursive: true });
  s = await school();
  s.server.tool(['tenant', 'keeper', 'oakhill']);
  fresh = await Server.start();
});
afterAll(async () => {
  await shut();
  await s?.close();
  await fresh?.close();
});

for (const [size, options] of [['desktop', desktop], ['phone', phone]] as const)
  for (const scheme of ['light', 'dark'] as const)
    for (const locale of ['zh-CN', 'en-GB'] as const)
      test(`${size} ${scheme} ${locale}`, async () => {
        const page = await open(s.server, { ...options, locale, colorScheme: scheme });
        const shot = (name: string) => page.screenshot({ path: `${out}${name}-${size}-${scheme}-${locale.slice(0, 2)}.png`, animations: 'disabled' });
        await page.locator('form').waitFor();
        await shot('signin');
        await enter(page, 'linxiao');
        await page.locator('a.item').nth(3).waitFor();
        await page.waitForTimeout(400); // names and presence
        await shot('list');
        await visit(page, s.group);
        await log(page).getByText('值日表').waitFor();
        await page.waitForTimeout(600);
        await shot('conversation');
        await log(page).locator('article .line').first().click({ button: 'right' });
        await page.locator('[role=menu]').waitFor();
        await shot('menu');
        await page.keyboard.press('Escape');
        await page.locator('.pane header .icon').last().click();
        await page.locator('dialog li').first().waitFor();
        await page.waitForTimeout(300);
        await shot('details');
        await page.keyboard.press('Escape');
        await page.goto(`${s.server.url}/#/people`);
        await page.waitForTimeout(200);
        await shot('people');
        await page.goto(`${s.server.url}/#/notices`);
        await page.waitForTimeout(200);
        await shot('notices');
        await page.goto(`${s.server.url}/#/me`);
        await page.waitForTimeout(200);
        await shot('me');
        await page.goto(`${s.server.url}/#/chats`);
        await page.locator('.list header .icon').click();
        await page.waitForTimeout(300);
        await shot('new');
        await page.keyboard.press('Escape'); // the dialog lies over every page
        for (const to of ['people', 'classes', 'roster', 'invitations', 'rules', 'signin', 'tokens', 'settings', 'audit', 'box', 'backups', 'tenants']) {
          await page.goto(`${s.server.url}/#/admin/${to}`);
          await page.locator('.console h1').waitFor();
          await page.waitForTimeout(500);
          await shot(`admin-${to}`);
        }
        // Without a connection, with something that waits.
        await visit(page, s.group);
        await log(page).getByText('值日表').waitFor();
        await page.context().setOffline(true);
        await page.locator('#composer').fill('好的，明天一早给你。');
        await page.locator('#composer').press('Control+Enter');
        await page.waitForTimeout(2500);
        await shot('offline');
        await page.context().setOffline(false);
        // The pages that the server writes itself, for whoever comes from another program.
        for (const [name, path] of [['server-signin', '/t/oakhill/signin'], ['server-device', '/t/oakhill/device'], ['server-refused', '/t/oakhill/oauth/authorize?client_id=nobody&response_type=code']] as const) {
          await page.goto(s.server.url + path);
          await shot(name);
        }
        clean(page);
        await page.context().close();
      });

for (const [size, options] of [['desktop', desktop], ['phone', phone]] as const)
  for (const scheme of ['light', 'dark'] as const)
    for (const locale of ['zh-CN', 'en-GB'] as const)
      test(`set-up: ${size} ${scheme} ${locale}`, async () => {
        const page = await open(fresh, { ...options, locale, colorScheme: scheme });
        const shot = (name: string) => page.screenshot({ path: `${out}${name}-${size}-${scheme}-${locale.slice(0, 2)}.png`, animations: 'disabled' });
        await page.locator('form').waitFor();
        await shot('setup-code');
        await page.locator('form input').first().fill(fresh.tool(['setup-code']).trim());
        await page.locator('form .btn').last().click();
        await page.locator('input[type=radio]').first().waitFor();
        await page.locator('form input:not([type=radio])').first().fill(locale === 'zh-CN' ? '橡树小学' : 'Oakhill School');
        await shot('setup-kind');
        await page.locator('form .btn').last().click();
        await page.locator('input[autocomplete=new-password]').waitFor();
        await shot('setup-owner');
        clean(page);
        await page.context().close();
      });

async function visit(page: Page, id: string): Promise<void> {
  await page.goto(`${s.server.url}/#/c/${id}`);
}
