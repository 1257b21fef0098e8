import { afterAll, beforeAll, expect, test } from 'vitest';
import { accessible, clean, composer, enter, log, open, phone, say, shut } from './browser';
import { password, Server } from './server';

let server: Server;
beforeAll(async () => {
  server = await Server.start();
});
afterAll(async () => {
  await shut();
  await server?.close();
});

test('a new box: the wizard, people, and the first conversation between two of them', async () => {
  const page = await open(server);
  await page.getByRole('heading', { name: 'Welcome to Pipit' }).waitFor();
  await accessible(page, 'welcome');
  await page.getByLabel('Set-up code').fill('AAAA-AAAA');
  await page.getByRole('button', { name: 'Continue' }).click();
  await page.getByText('That is not the code').waitFor();
  // Typed as people type: without the dash, in small letters.
  const code = server.tool(['setup-code']).trim();
  await page.getByLabel('Set-up code').fill(code.replace('-', '').toLowerCase());
  await page.getByRole('button', { name: 'Continue' }).click();
  await page.getByRole('heading', { name: 'What is this box for?' }).waitFor();
  await accessible(page, 'kind');
  await page.getByRole('radio', { name: /Office/ }).check();
  await page.getByLabel('Name of the organisation').fill('Oakhill Office');
  expect(await page.getByLabel('Short name').inputValue()).toBe('oakhill-office');
  await page.getByRole('button', { name: 'Continue' }).click();
  await page.getByLabel('Your name').fill('Ann Lee');
  expect(await page.getByLabel('User name').inputValue()).toBe('ann');
  await page.locator('input[autocomplete=new-password]').fill(password);
  await page.getByRole('button', { name: 'Set up' }).click();
  // A list of people: looked at first, then imported; two of its rows can't be.
  await page.getByRole('heading', { name: 'Who is in it?' }).waitFor();
  await accessible(page, 'roster in the wizard');
  const list = (text: string) => page.locator('input[type=file]').setInputFiles({ name: 'staff.csv', mimeType: 'text/csv', buffer: Buffer.from(text) });
  await list('class,role,name,username\nSales,staff,Tina Oak,tina\nSales,king,Bad Role,bad\n');
  await page.getByText('1 row is not right').waitFor();
  await page.getByRole('cell', { name: 'staff.csv:3' }).waitFor();
  await list('class,role,name,username\nSales,staff,Tina Oak,tina\nSales,member,<img src=x onerror=window.owned=1>,sam\n');
  await page.getByText('People added').waitFor();
  await accessible(page, 'what would change');
  await page.getByRole('button', { name: 'Import', exact: true }).click();
  await page.getByText('The roster is imported.').waitFor();
  expect(server.tool(['user', 'list'])).toContain('tina');
  await page.getByRole('button', { name: 'Continue' }).click();
  await page.getByRole('heading', { name: 'Oakhill Office is ready' }).waitFor();
  const [cards] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: 'Print login cards' }).click()]);
  expect(cards.suggestedFilename()).toBe('cards.html');
  expect(await page.evaluate(() => (window as any).owned)).toBeUndefined();
  await page.getByRole('img', { name: 'QR code with the address' }).waitFor();
  await accessible(page, 'done');
  await page.getByRole('button', { name: 'Go to the messages' }).click();
  await page.getByText('Nothing here yet').waitFor();

  // The first administrator adds somebody, who has to choose a password of their own.
  await page.getByRole('link', { name: 'Administration' }).click();
  await page.getByRole('heading', { name: 'The box', level: 1 }).waitFor(); // whoever set it up looks after it
  await page.locator('.console').getByRole('link', { name: 'People', exact: true }).click();
  await page.getByRole('button', { name: 'Add a person' }).click();
  await page.getByLabel('Name', { exact: true }).fill('Bob Ito');
  await page.locator('dialog').getByLabel('Password').fill('given-by-ann-1');
  await page.locator('dialog').getByRole('button', { name: 'Add a person' }).click();
  await page.getByText('Bob Ito').waitFor();
  await accessible(page, 'people');
  for (const tab of ['Invitations', 'Organisation', 'Audit log']) {
    await page.getByRole('link', { name: tab, exact: true }).click();
    await page.waitForTimeout(300);
    await accessible(page, tab);
  }
  await page.locator('tbody').getByText('Add a person').first().waitFor();
  // What is in use is counted from the first minute on: Ann, Bob and the roster's two.
  await page.getByRole('link', { name: 'Organisation', exact: true }).click();
  const use = (what: string) => page.locator('dl > div', { has: page.getByText(what, { exact: true }) }).locator('dd').first().innerText();
  await page.getByText('Connections now').waitFor();
  expect(await use('People')).toBe('4');
  expect(Number(await use('Connections now'))).toBeGreaterThan(0);
  expect(await use('Conversations')).toBe('2'); // of the class
  expect(await use('Stored')).toMatch(/^[1-9]/);

  const bob = await open(server, phone);
  await bob.locator('input[autocomplete=username]').fill('bob');
  await bob.locator('#password').fill('given-by-ann-1');
  await bob.locator('form .btn').click();
  await bob.getByLabel('New password').fill(password);
  await bob.locator('form .btn').click();
  await bob.locator('.shell').waitFor();

  await page.goto(`${server.url}/#/people`);
  await page.getByRole('searchbox', { name: 'Search' }).fill('bob');
  await page.getByRole('button', { name: /Bob Ito/ }).click();
  await say(page, 'Welcome, Bob');
  await bob.getByRole('link', { name: /Ann Lee/ }).click();
  await log(bob).getByText('Welcome, Bob').waitFor();
  await composer(bob).fill('Thank you'); // on a phone Enter is a new line
  await bob.getByRole('button', { name: 'Send', exact: true }).click();
  await log(page).getByText('Thank you').waitFor();
  await expect.poll(() => log(page).getByLabel('Read', { exact: true }).count()).toBe(1);
  expect(await composer(page).inputValue()).toBe('');

  // The wizard is over: whoever comes now signs in.
  const late = await open(server);
  await late.getByRole('heading', { name: 'Sign in' }).waitFor();
  await enter(late, 'ann');
  // Ann sees both of her devices, ends this one from the other, and this one is told.
  await page.goto(`${server.url}/#/me`);
  await page.getByRole('button', { name: 'Sign out everywhere else' }).click();
  await late.getByText('You were signed out.').waitFor();
  await accessible(page, 'me');
  clean(page, bob, late);
  for (const p of [page, bob, late]) await p.context().close();
});
