import { afterAll, beforeAll, expect, test } from 'vitest';
import { accessible, clean, composer, desktop, log, open, phone, shut, signedIn } from './browser';
import { password } from './server';
import { school, type School } from './school';

let s: School;
beforeAll(async () => {
  s = await school();
}, 120_000);
afterAll(async () => {
  await shut();
  await s?.close();
});

test('by keyboard alone: sign in, jump, write, walk, act, and the focus comes back', async () => {
  const page = await open(s.server, { ...desktop, locale: 'zh-CN' });
  const key = (k: string) => page.keyboard.press(k);
  await page.locator('form').waitFor();
  await page.keyboard.type('linxiao');
  await key('Tab');
  await page.keyboard.type(password);
  await key('Enter');
  await page.locator('a.item').first().waitFor();
  await key('Control+k');
  await page.keyboard.type('五年级');
  await page.locator('#jump li').first().waitFor();
  await key('Enter');
  await expect.poll(() => page.evaluate(() => document.activeElement?.id)).toBe('composer');
  await page.keyboard.type('只用键盘');
  await key('Shift+Enter');
  await page.keyboard.type('下一行');
  await key('Enter');
  await log(page).getByText('下一行').waitFor();
  await expect.poll(() => log(page).getByLabel('等待发送').count()).toBe(0);
  // ↑ edits it, Esc leaves it as it was.
  await key('ArrowUp');
  await expect.poll(() => composer(page).inputValue()).toBe('只用键盘\n下一行');
  await key('Escape');
  await expect.poll(() => composer(page).inputValue()).toBe('');
  // The menu of a message: reached by Tab, walked by arrows, closed by Esc, and the focus is back.
  await page.locator('[role=log]').focus();
  const menu = log(page).locator('.menu').last();
  await menu.focus();
  await key('Enter');
  await page.locator('[role=menu]').waitFor();
  await key('ArrowDown');
  expect(await page.evaluate(() => document.activeElement?.getAttribute('role'))).toBe('menuitem');
  await accessible(page, 'menu');
  await key('Escape');
  await expect.poll(() => page.locator('[role=menu]').count()).toBe(0);
  expect(await page.evaluate(() => document.activeElement?.getAttribute('aria-haspopup'))).toBe('menu');
  // Alt-↓ walks the list; ? lists the keys.
  const before = page.url();
  await key('Alt+ArrowDown');
  await expect.poll(() => page.url()).not.toBe(before);
  await key('Alt+ArrowUp');
  await expect.poll(() => page.url()).toBe(before);
  await page.locator('[role=log]').focus();
  await key('?');
  await page.getByRole('heading', { name: '快捷键' }).waitFor();
  await accessible(page, 'keys');
  await key('Escape');
  clean(page);
  await page.context().close();
});

for (const [name, options, locale] of [['desktop', desktop, 'zh-CN'], ['phone', phone, 'en-GB']] as const)
  test(`axe finds nothing serious on any page: ${name}, ${locale}`, async () => {
      const page = await signedIn(s.server, 'linxiao', { ...options, locale, colorScheme: locale === 'zh-CN' ? 'dark' : 'light' });
      await page.locator('a.item').nth(2).waitFor();
      expect(await page.locator('html').getAttribute('lang')).toBe(locale === 'zh-CN' ? 'zh-CN' : 'en');
      await accessible(page, 'list');
      for (const to of ['notices', 'people', 'me']) {
        await page.goto(`${s.server.url}/#/${to}`);
        await page.waitForTimeout(250);
        await accessible(page, to);
      }
      await page.goto(`${s.server.url}/#/c/${s.group}`);
      await log(page).getByText('值日表').waitFor();
      await page.waitForTimeout(400);
      await accessible(page, 'conversation');
      await page.locator('.pane header .icon').last().click();
      await page.locator('dialog li').first().waitFor();
      await page.waitForTimeout(300);
      await accessible(page, 'details');
      await page.keyboard.press('Escape');
      await page.getByRole('button', { name: locale === 'zh-CN' ? '表情' : 'Emoji', exact: true }).click();
      await page.locator('.matches button').first().waitFor();
      await accessible(page, 'emoji');
      await page.goto(`${s.server.url}/#/chats`);
      await page.locator('.list header .icon').click();
      await page.waitForTimeout(250);
      await accessible(page, 'new conversation');
      // Nothing is wider than the screen.
      expect(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth)).toBe(true);
      clean(page);
      await page.context().close();
    });
