/** One's own account: second step, passkeys, accounts elsewhere, devices; and the ways in that these give. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { accessible, clean, enter, open, phone, shut, signedIn } from './browser';
import { password, Server } from './server';
import { totp } from './totp';

let server: Server;
let other: Server; // the provider of another organisation, as that of a customer
beforeAll(async () => {
  server = await Server.start();
  server.tenant('oakhill', 'Oakhill School');
  server.people({ username: 'ann', name: 'Ann Lee', role: 'owner' }, { username: 'bob', name: 'Bob Ito', role: 'staff' }, { username: 'wang', name: '王敏' }, { username: 'zhou', name: '周子涵' });
}, 120_000);
afterAll(async () => {
  await shut();
  await server?.close();
  await other?.close();
});

test('second step: set up with its recovery codes, asked for at sign-in, taken away again', async () => {
  const page = await signedIn(server, 'bob');
  await page.goto(`${server.url}/#/me`);
  await page.getByRole('button', { name: 'Set up a second step' }).click();
  const dialog = page.locator('dialog');
  await dialog.getByLabel('Present password').fill('not this one');
  await dialog.getByRole('button', { name: 'Continue' }).click();
  await dialog.getByText('That is not your password.').waitFor();
  await dialog.getByLabel('Present password').fill(password);
  await dialog.getByRole('button', { name: 'Continue' }).click();
  await dialog.getByRole('img', { name: 'QR code for the authenticator app' }).waitFor();
  await accessible(page, 'second step, QR');
  const secret = (await dialog.locator('code').innerText()).replace(/\s/g, '');
  await dialog.getByLabel('Code from your authenticator app').fill('000000');
  await dialog.getByRole('button', { name: 'Turn on' }).click();
  await dialog.getByText('That code is not right').waitFor();
  await dialog.getByLabel('Code from your authenticator app').fill(totp(secret));
  await dialog.getByRole('button', { name: 'Turn on' }).click();
  await dialog.getByText('They are shown only now').waitFor();
  await accessible(page, 'recovery codes');
  const codes = await dialog.locator('code').allInnerTexts();
  expect(codes.length).toBeGreaterThanOrEqual(8);
  expect(new Set(codes).size).toBe(codes.length);
  await dialog.getByRole('button', { name: 'I have kept them' }).click();
  await page.getByText(`${codes.length} recovery codes are left.`).waitFor();

  // The next sign-in asks for it; what was typed stays, a wrong code says so, and a recovery code leads in.
  const late = await open(server, phone);
  await late.locator('input[autocomplete=username]').fill('bob');
  await late.locator('#password').fill(password);
  await late.locator('form .btn').click();
  const code = late.getByLabel('Code from your authenticator app');
  await code.fill('123456');
  await accessible(late, 'second step at sign-in');
  await late.locator('form .btn').click();
  await late.getByText('That code is not right').waitFor();
  expect(await late.locator('#password').inputValue()).toBe(password);
  await code.fill(codes[0]!);
  await late.locator('form .btn').click();
  await late.locator('.shell').waitFor();

  // New recovery codes end the old ones; then the second step goes.
  await page.reload();
  await page.getByText(`${codes.length - 1} recovery codes are left.`).waitFor();
  await page.getByRole('button', { name: 'New recovery codes' }).click();
  await dialog.getByLabel('Present password').fill(password);
  await dialog.getByLabel('Code from your authenticator app').fill(codes[1]!);
  await dialog.getByRole('button', { name: 'New recovery codes' }).click();
  await dialog.getByText('They are shown only now').waitFor();
  const fresh = await dialog.locator('code').allInnerTexts();
  expect(fresh.filter((c) => codes.includes(c))).toEqual([]);
  await dialog.getByRole('button', { name: 'I have kept them' }).click();
  await page.getByRole('button', { name: 'Turn the second step off' }).click();
  await dialog.getByLabel('Present password').fill(password);
  await dialog.getByLabel('Code from your authenticator app').fill(codes[2]!);
  await dialog.getByRole('button', { name: 'Turn the second step off' }).click();
  await dialog.getByText('That code is not right').waitFor();
  await dialog.getByLabel('Code from your authenticator app').fill(fresh[0]!);
  await dialog.getByRole('button', { name: 'Turn the second step off' }).click();
  await page.getByText('Off. With it').waitFor();
  clean(page, late);
  await page.context().close();
  await late.context().close();
});

test('a second step that the organisation asks for is set up at sign-in, and its recovery codes are shown', async () => {
  const owner = await signedIn(server, 'ann');
  const r = await owner.evaluate(async () => (await fetch('/v1/tenant/settings', { method: 'PATCH', headers: { 'Content-Type': 'application/json' }, body: '{"staff_totp":true}' })).status);
  expect(r).toBe(200);
  const page = await open(server, { ...phone, locale: 'zh-CN' });
  await page.locator('input[autocomplete=username]').fill('bob');
  await page.locator('#password').fill(password);
  await page.locator('form .btn').click();
  await page.getByText('本单位要求两步验证').waitFor();
  await accessible(page, 'second step to be set up');
  await page.getByLabel('身份验证器里的验证码').fill(totp(await page.locator('form code').innerText()));
  await page.locator('form .btn').click();
  await page.getByRole('heading', { name: '请保存恢复码' }).waitFor();
  expect(await page.locator('li code').count()).toBeGreaterThanOrEqual(8);
  await accessible(page, 'recovery codes after sign-in');
  await page.getByRole('button', { name: '我已保存' }).click();
  await page.locator('.shell').waitFor();
  await owner.evaluate(async () => fetch('/v1/tenant/settings', { method: 'PATCH', headers: { 'Content-Type': 'application/json' }, body: '{"staff_totp":false}' }));
  clean(owner, page);
  await owner.context().close();
  await page.context().close();
});

test('passkeys: added with a name, lead in, removed; not offered where there can be none', async () => {
  const insecure = await signedIn(server, 'wang'); // an address in numbers has none
  await insecure.goto(`${server.url}/#/me`);
  await insecure.getByText('That needs the secure address').waitFor();
  expect(await insecure.getByRole('button', { name: 'Add a passkey' }).count()).toBe(0);
  await insecure.context().close();

  const at = `http://localhost:${server.port}`;
  const page = await open(server, undefined, undefined, at);
  const cdp = await page.context().newCDPSession(page);
  await cdp.send('WebAuthn.enable');
  await cdp.send('WebAuthn.addVirtualAuthenticator', { options: { protocol: 'ctap2', transport: 'internal', hasResidentKey: true, hasUserVerification: true, isUserVerified: true } });
  await enter(page, 'wang');
  await page.goto(`${at}/#/me`);
  await page.getByRole('button', { name: 'Add a passkey' }).click();
  const dialog = page.locator('dialog');
  await dialog.getByLabel('Present password').fill(password);
  await dialog.getByRole('button', { name: 'Continue' }).click();
  await dialog.getByLabel('Name').fill('<b>Tablet</b>');
  await accessible(page, 'passkey');
  await dialog.getByRole('button', { name: 'Add a passkey' }).click();
  await page.getByText('<b>Tablet</b>').waitFor();
  await accessible(page, 'me with a passkey');
  // It leads in, without user name and password.
  await page.getByRole('button', { name: 'Sign out', exact: true }).click();
  await dialog.getByRole('button', { name: 'Sign out' }).click();
  await page.getByRole('button', { name: 'Sign in with a passkey' }).click();
  await page.locator('.shell').waitFor();
  await page.goto(`${at}/#/me`);
  await page.getByRole('button', { name: 'Remove the passkey <b>Tablet</b>' }).click();
  await dialog.getByRole('button', { name: 'Remove' }).click();
  await expect.poll(() => page.getByText('<b>Tablet</b>').count()).toBe(0);
  // Removed, it leads in no more, and the page says so.
  await page.getByRole('button', { name: 'Sign out', exact: true }).click();
  await dialog.getByRole('button', { name: 'Sign out' }).click();
  await page.getByRole('button', { name: 'Sign in with a passkey' }).click();
  await page.getByText('This passkey does not lead in here').waitFor();
  clean(page);
  await page.context().close();
});

test('devices: seen, ended one by one, and all at once', async () => {
  const [here, there, third] = [await signedIn(server, 'zhou'), await signedIn(server, 'zhou', phone), await signedIn(server, 'zhou')];
  await here.goto(`${server.url}/#/me`);
  await expect.poll(() => here.getByRole('button', { name: /^Sign out on / }).count()).toBe(2);
  await here.getByRole('button', { name: /^Sign out on .*Android/ }).click();
  await there.getByText('You were signed out.').waitFor();
  await expect.poll(() => here.getByRole('button', { name: /^Sign out on / }).count()).toBe(1);
  // A wrong present password is said in the form, and nothing typed is lost.
  await here.getByRole('button', { name: 'Change password' }).click();
  await here.getByLabel('Present password').fill('wrong');
  await here.getByLabel('New password').fill('password1');
  await here.locator('form').getByRole('button', { name: 'Change password' }).click();
  await here.locator('form [role=alert]').getByText(/./).waitFor();
  expect(await here.getByLabel('New password').inputValue()).toBe('password1');
  await here.getByRole('button', { name: 'Sign out everywhere', exact: true }).click();
  await accessible(here, 'sign out everywhere');
  await here.locator('dialog').getByRole('button', { name: 'Sign out everywhere' }).click();
  await here.getByRole('heading', { name: 'Sign in' }).waitFor();
  await third.getByText('You were signed out.').waitFor();
  clean(here, there, third);
  for (const p of [here, there, third]) await p.context().close();
});

test('an account elsewhere: linked while signed in, leads in, its own sign-out is offered, unlinked again', async () => {
  // Another box is the provider, under another name, so that cookies stay apart.
  other = await Server.start();
  for (const s of [server, other]) s.clockSet();
  other.tenant('login', 'County login');
  other.people({ username: 'w.min', name: 'Wang Min' });
  const issuer = `http://localhost:${other.port}/t/login`;
  const made = JSON.parse(other.tool(['oidc', 'client', 'add', 'oakhill', '--name', 'Oakhill', '--kind', 'web', '--redirect', `${server.url}/t/oakhill/provider/county/callback`, '--logout', `${server.url}/t/oakhill/signin`, '--json']));
  server.tool(['oidc', 'provider', 'add', 'county', '--name', 'County <i>login</i>', '--issuer', issuer, '--client-id', 'oakhill', '--secret-stdin'], made.secret + '\n');

  const page = await open(server, undefined, undefined, server.url, [other.port]);
  await enter(page, 'wang');
  await page.goto(`${server.url}/#/me`);
  await page.getByText('Not linked').waitFor();
  await accessible(page, 'me with a provider');
  await page.getByRole('button', { name: 'Link with County <i>login</i>' }).click();
  await page.getByLabel('User name').fill('w.min');
  await page.getByLabel('Password').fill(password);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.getByRole('button', { name: 'Allow', exact: true }).click();
  await page.getByText('Leads in here').waitFor();
  await page.getByRole('button', { name: 'Sign out', exact: true }).click();
  await page.locator('dialog').getByRole('button', { name: 'Sign out' }).click();

  // Still signed in there: one press, and the page takes the cookie over without another sign-in.
  await page.getByRole('link', { name: /County/ }).click();
  await page.locator('.shell').waitFor();
  await page.goto(`${server.url}/#/me`);
  await page.getByText('王敏').first().waitFor();
  await page.getByRole('button', { name: 'Sign out', exact: true }).click();
  await page.locator('dialog').getByRole('button', { name: 'Sign out' }).click();
  await page.getByText('still signed in there').waitFor();
  await accessible(page, 'signed out here, signed in there');
  await page.getByRole('link', { name: 'Sign out there too' }).click();
  await page.waitForURL((u) => u.port === String(other.port) || u.pathname.endsWith('/signin'));
  if (new URL(page.url()).port === String(other.port)) await page.getByRole('button', { name: 'Sign out' }).click();
  await page.waitForURL((u) => u.pathname === '/t/oakhill/signin');
  await page.getByRole('link', { name: /County/ }).click();
  await page.getByLabel('User name').waitFor(); // signed out there too
  expect(page.url()).toContain(issuer);

  await page.goto(server.url);
  await enter(page, 'wang');
  await page.goto(`${server.url}/#/me`);
  await page.getByRole('button', { name: /^Unlink from County/ }).click();
  await page.locator('dialog').getByRole('button', { name: 'Unlink' }).click();
  await page.getByText('Not linked').waitFor();
  clean(page);
  await page.context().close();
});
