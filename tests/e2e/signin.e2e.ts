/** The ways in: a login card, and the sign-in pages of the OpenID provider, which need no script. Both languages, phone and desktop. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Page } from 'playwright-core';
import { accessible, clean, enter, open, phone, shut, signedIn } from './browser';
import { password, Server } from './server';
import { totp } from './totp';

const hostile = '<img src=x onerror=window.owned=1>';
let server: Server;
let owner: Page;
beforeAll(async () => {
  server = await Server.start();
  server.tenant('oakhill', '橡树小学');
  server.clockSet(); // id_tokens are given out
  server.people({ username: 'ann', name: 'Ann Lee', role: 'owner' }, { username: 'bob', name: 'Bob Ito', role: 'staff' }, { username: 'zhou', name: hostile });
  owner = await signedIn(server, 'ann');
}, 120_000);
afterAll(async () => {
  await shut();
  await server?.close();
});

/** A call of the owner's. */
const rest = (method: string, path: string, body?: object) =>
  owner.evaluate(
    async ([method, path, body]) => {
      const r = await fetch(path as string, { method: method as string, ...(body ? { headers: { 'Content-Type': 'application/json', 'Idempotency-Key': String(Math.random()) }, body: JSON.stringify(body) } : {}) });
      return { status: r.status, text: await r.text() };
    },
    [method, path, body] as const,
  );

const pageOf = (path: string) => `${server.url}/t/oakhill${path}`;
const fits = (page: Page) => page.evaluate(() => document.documentElement.scrollWidth <= innerWidth);

test('a login card: its QR code leads to a password of one’s own; looking uses nothing up, and it works once', async () => {
  expect((await rest('POST', '/v1/users', { username: 'chen', name: '陈小明', role: 'member' })).status).toBe(201);
  const cards = await rest('POST', '/v1/cards', { users: ['chen'], format: 'html', lang: 'zh' });
  const code = /[A-Z2-9]{4}(?:-[A-Z2-9]{4}){3}/.exec(cards.text)![0];
  // What a browser loads beforehand, and a second look, take the code from nobody.
  for (let i = 0; i < 2; i++) expect((await fetch(pageOf('/join'))).status).toBe(200);
  const first = await open(server, { ...phone, locale: 'zh-CN' }, undefined, pageOf(`/join#${code}`));
  await first.getByRole('heading', { name: '你好，陈小明' }).waitFor();
  expect(first.url()).not.toContain(code);
  await first.context().close();

  const page = await open(server, { ...phone, locale: 'zh-CN' }, undefined, pageOf(`/join#${code}`));
  await page.getByRole('heading', { name: '你好，陈小明' }).waitFor();
  await accessible(page, 'card, zh, phone');
  expect(await fits(page)).toBe(true);
  await page.getByLabel('设置密码').fill('password');
  await page.locator('form .btn').click();
  await page.getByText('请换一个密码').waitFor();
  await page.getByLabel('设置密码').fill(password);
  await page.locator('form .btn').click();
  await page.locator('.shell').waitFor();
  expect(new URL(page.url()).pathname).toBe('/');
  await page.reload();
  await page.locator('.shell').waitFor();

  // Used, it says so, in the other language too; a code can be typed as people type.
  const late = await open(server, undefined, undefined, pageOf(`/join#${code}`));
  await late.getByText('This code is not valid').waitFor();
  await accessible(late, 'card, used');
  const made = JSON.parse((await rest('POST', '/v1/invitations', { role: 'member', name: hostile })).text) as { code: string };
  await late.getByLabel('Code').fill(made.code.replace(/-/g, ' ').toLowerCase());
  await late.locator('form .btn').click();
  await late.getByRole('heading', { name: `Hello, ${hostile}` }).waitFor();
  await late.getByLabel('User name').fill('ann');
  await late.getByLabel('Choose a password').fill(password);
  await late.locator('form .btn').click();
  await late.getByText('Choose another user name').waitFor();
  await accessible(late, 'invitation');
  expect(await late.getByLabel('Choose a password').inputValue()).toBe(password);
  await late.getByLabel('User name').fill('newcomer');
  await late.locator('form .btn').click();
  await late.locator('.shell').waitFor();
  expect(await late.evaluate(() => (window as any).owned)).toBeUndefined();
  clean(page, late);
  await page.context().close();
  await late.context().close();
});

for (const [name, options, zh] of [['phone, zh', { ...phone, locale: 'zh-CN', colorScheme: 'dark' as const }, true], ['desktop, en', { locale: 'en-GB' }, false]] as const)
  test(`the pages without script: password, own password, second step, recovery codes, device, consent, sign-out: ${name}`, async () => {
    const t = (en: string, cn: string) => (zh ? cn : en);
    const user = zh ? 'wu' : 'eve';
    expect((await rest('POST', '/v1/users', { username: user, name: hostile, role: 'staff', password: 'given-by-ann-1', temporary: true })).status).toBe(201);
    await rest('PATCH', '/v1/tenant/settings', { staff_totp: true });
    const page = await open(server, { ...options, javaScriptEnabled: true }, undefined, pageOf('/signin?next=/t/oakhill/device'));
    const button = () => page.locator('form .button').first();
    const look = async (where: string) => {
      // The same pages twice: one look of axe at most of them is enough.
      if (zh || where === 'sign-in' || where === 'consent') await accessible(page, `${where}, ${name}`);
      expect(await fits(page), where).toBe(true);
      expect(await page.locator('html').getAttribute('lang')).toBe(t('en', 'zh-CN'));
      expect(await page.locator('img[onerror], script').count()).toBe(0);
    };
    await look('sign-in');
    await page.locator('#username').fill(user);
    await page.locator('#password').fill('wrong');
    await button().click();
    await page.getByRole('alert').getByText(t('is wrong', '不对')).waitFor();
    expect(await page.locator('#username').inputValue()).toBe(user);
    await look('wrong password');
    await page.locator('#password').fill('given-by-ann-1');
    await button().click();
    // The organisation wants a second step, and the password was somebody else's.
    await page.getByText(t('Set up a second step', '开启两步验证')).first().waitFor();
    await look('second step to set up');
    const secret = await page.locator('code').first().innerText();
    await page.locator('#totp').fill('000000');
    await button().click();
    await page.getByRole('alert').waitFor();
    // A wrong code begins again or asks again; the person goes on from where the page is.
    if (await page.locator('#username').count()) {
      await page.locator('#username').fill(user);
      await page.locator('#password').fill('given-by-ann-1');
      await button().click();
    }
    const now = (await page.locator('code').count()) > 0 ? await page.locator('code').first().innerText() : secret;
    await page.locator('#totp').fill(totp(now));
    await button().click();
    await page.locator('#new_password').waitFor();
    await look('own password');
    await page.locator('#new_password').fill(password);
    await button().click();
    await page.getByText(t('Keep these codes', '请保存恢复码')).waitFor();
    await look('recovery codes');
    const codes = await page.locator('.codes li').allInnerTexts();
    expect(codes.length).toBeGreaterThanOrEqual(8);
    await page.locator('a.button').click();

    // A device shows a code; the person types it, sees it again, and agrees.
    if (!zh) server.tool(['oidc', 'client', 'add', 'kiosk', '--name', hostile, '--kind', 'device']);
    else server.tool(['oidc', 'client', 'add', 'kiosk-zh', '--name', hostile, '--kind', 'device']);
    const ask = async () => (await (await fetch(pageOf('/oauth/device_authorization'), { method: 'POST', headers: { 'Content-Type': 'application/x-www-form-urlencoded' }, body: new URLSearchParams({ client_id: zh ? 'kiosk-zh' : 'kiosk', scope: 'openid profile' }) })).json()) as { user_code: string; verification_uri_complete: string; device_code: string };
    await page.locator('#user_code').fill('BBBB-BBBB');
    await button().click();
    await page.getByRole('alert').waitFor();
    await look('device, wrong code');
    const d = await ask();
    await page.goto(d.verification_uri_complete); // a link looks only
    expect(await page.locator('#user_code').inputValue()).toBe(d.user_code);
    await button().click();
    await page.locator('.bigcode').getByText(d.user_code).waitFor();
    await look('consent');
    await page.locator('button[value=allow]').click();
    await page.getByText(t('The device is signed in', '设备已登录')).waitFor();
    await look('device done');
    const d2 = await ask();
    await page.goto(d2.verification_uri_complete);
    await button().click();
    await page.locator('button[value=deny]').click();
    await page.getByText(t('The device was not signed in', '设备没有登录')).waitFor();

    // Who signed in here is signed in at the client.
    await page.goto(server.url);
    await page.locator('.shell').waitFor();
    await page.goto(pageOf('/signout'));
    await look('sign-out');
    await button().click();
    await page.getByText(t('You are signed out', '已退出登录')).waitFor();
    await look('signed out');
    // The next time, a recovery code does it.
    await page.goto(pageOf('/signin'));
    await page.locator('#username').fill(user);
    await page.locator('#password').fill(password);
    await button().click();
    await page.locator('#totp').waitFor();
    await look('second step');
    await page.locator('#totp').fill(codes[0]!);
    await button().click();
    await page.waitForURL(`${server.url}/`);
    expect(await page.evaluate(() => (window as any).owned)).toBeUndefined();
    clean(page);
    await page.context().close();
    await rest('PATCH', '/v1/tenant/settings', { staff_totp: false });
  });

test('the pages work without any script, and tell who asks for too much or for nobody', async () => {
  const page = await open(server, { javaScriptEnabled: false }, undefined, pageOf('/signin'));
  await page.locator('#username').fill('bob');
  await page.locator('#password').fill(password);
  await page.locator('form .button').click();
  await page.waitForURL(`${server.url}/`);
  await page.goto(pageOf('/oauth/authorize?client_id=nobody&response_type=code'));
  await page.getByText('not known to this organisation').waitFor();
  await page.goto(`${server.url}/t/none/signin`);
  await page.getByText('There is no such organisation here').waitFor();
  await page.context().close();
});
