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
beforeAll(async () => {
  mkdirSync(out, { recursive: true });
  s = await school();
  s.server.tool(['tenant', 'keeper', 'oakhill']);
  s.server.clockSet(); // nobody is signed in at a program without the time
  s.server.tool(['oidc', 'client', 'add', 'kiosk', '--tenant', 'oakhill', '--name', '教室大屏', '--kind', 'device']);
});
afterAll(async () => {
  await shut();
  await s?.close();
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
        await page.locator('.page').evaluate((e) => e.scrollTo(0, e.scrollHeight));
        await shot('me-end');
        await page.goto(`${s.server.url}/#/chats`);
        await page.locator('.list header .icon').click();
        await page.waitForTimeout(300);
        await shot('new');
        await page.keyboard.press('Escape'); // the dialog lies over every page
        await page.keyboard.press('Control+k');
        await page.waitForTimeout(300);
        await shot('jump');
        await page.keyboard.press('Escape');
        await page.locator('a.item', { hasText: 'committee' }).click();
        await log(page).locator('article').first().waitFor();
        await page.waitForTimeout(600);
        await shot('long');
        await page.goto(`${s.server.url}/#/admin`);
        await page.locator('.console nav').waitFor();
        await page.waitForTimeout(500);
        await shot('admin');
        for (const to of ['people', 'classes', 'roster', 'invitations', 'rules', 'signin', 'tokens', 'settings', 'audit', 'box', 'backups', 'tenants']) {
          await page.goto(`${s.server.url}/#/admin/${to}`);
          await page.locator('.console h1').waitFor();
          await page.waitForTimeout(500);
          await shot(`admin-${to}`);
        }
        // Forms: an invitation that was made, a rule that is open.
        await page.goto(`${s.server.url}/#/admin/invitations`);
        await page.locator('.console .top .btn').click();
        await page.locator('dialog input').fill('欧阳若兮');
        await page.waitForTimeout(300);
        await shot('admin-invite');
        await page.locator('dialog .end .btn').last().click();
        await page.locator('dialog .code').waitFor();
        await shot('admin-invited');
        await page.keyboard.press('Escape');
        await page.goto(`${s.server.url}/#/admin/rules`);
        await page.locator('.console details summary').nth(2).click();
        await page.locator('.console details').nth(2).evaluate((e) => e.scrollIntoView());
        await shot('admin-rule');
        // Without a connection, with something that waits.
        await visit(page, s.group);
        await log(page).getByText('值日表').waitFor();
        await page.context().setOffline(true);
        await page.locator('#composer').fill('好的，明天一早给你。');
        await page.locator('#composer').press('Control+Enter');
        await page.waitForTimeout(2500);
        await shot('offline');
        await page.context().setOffline(false);
        // Somebody comes with a login card.
        const code = await page.evaluate(() =>
          fetch('/v1/invitations', { method: 'POST', headers: { 'Content-Type': 'application/json', 'Idempotency-Key': String(Math.random()) }, body: JSON.stringify({ role: 'member', name: '欧阳若兮' }) })
            .then((r) => r.json())
            .then((r: { code: string }) => r.code),
        );
        const card = await open(s.server, { ...options, locale, colorScheme: scheme }, undefined, `${s.server.url}/t/oakhill/join#${code}`);
        await card.locator('input[autocomplete=new-password]').waitFor();
        await card.screenshot({ path: `${out}card-${size}-${scheme}-${locale.slice(0, 2)}.png`, animations: 'disabled' });
        await card.context().close();
        // A device asks to be signed in.
        const device = (await (await fetch(`${s.server.url}/t/oakhill/oauth/device_authorization`, { method: 'POST', headers: { 'Content-Type': 'application/x-www-form-urlencoded' }, body: 'client_id=kiosk&scope=openid+profile' })).json()) as { verification_uri_complete: string };
        await page.goto(device.verification_uri_complete);
        await page.locator('form .button').first().click();
        await page.locator('button[value=allow]').waitFor();
        await shot('server-consent');
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
        const fresh = await Server.start(); // nobody has set it up
        const page = await open(fresh, { ...options, locale, colorScheme: scheme });
        const next = () => page.locator('form .btn').last().click();
        const shot = (name: string) => page.screenshot({ path: `${out}${name}-${size}-${scheme}-${locale.slice(0, 2)}.png`, animations: 'disabled' });
        await page.locator('form').waitFor();
        await shot('setup-code');
        await page.locator('form input').first().fill(fresh.tool(['setup-code']).trim());
        await next();
        await page.locator('input[type=radio]').first().waitFor();
        await page.locator('form input:not([type=radio])').first().fill(locale === 'zh-CN' ? '橡树小学' : 'Oakhill School');
        await shot('setup-kind');
        await next();
        const password = page.locator('input[autocomplete=new-password]');
        await password.waitFor();
        await page.locator('form input').first().fill('林晓');
        await page.locator('input[autocomplete=username]').fill('linxiao');
        await password.fill('correct-horse-battery');
        await shot('setup-owner');
        await next();
        const roster = (text: string) => page.locator('input[type=file]').setInputFiles({ name: 'roster.csv', mimeType: 'text/csv', buffer: Buffer.from(text) });
        await page.locator('input[type=file]').waitFor({ state: 'attached' });
        await shot('setup-roster');
        await roster('class,role,name,username\n五年级甲班,teacher,王敏,wangmin\n五年级甲班,student,陈小明,chen\n五年级甲班,king,坏行,bad\n');
        await page.locator('.preview table').waitFor();
        await shot('setup-roster-wrong');
        await roster('class,role,name,username\n五年级甲班,teacher,王敏,wangmin\n五年级甲班,student,陈小明,chen\n');
        await page.locator('.preview details').first().waitFor();
        await shot('setup-roster-diff');
        await page.getByRole('button', { name: locale === 'zh-CN' ? '导入' : 'Import', exact: true }).click();
        await page.getByText(locale === 'zh-CN' ? '名册已导入。' : 'The roster is imported.').waitFor();
        await next();
        await page.getByRole('img', { name: locale === 'zh-CN' ? '地址二维码' : 'QR code with the address' }).waitFor();
        await shot('setup-done');
        clean(page);
        await page.context().close();
        await fresh.close();
      });

async function visit(page: Page, id: string): Promise<void> {
  await page.goto(`${s.server.url}/#/c/${id}`);
}
