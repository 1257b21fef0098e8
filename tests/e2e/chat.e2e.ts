import { afterAll, beforeAll, expect, test } from 'vitest';
import { accessible, clean, composer, log, open, phone, say, shut, signedIn, texts, enter } from './browser';
import { Server } from './server';

let server: Server;
beforeAll(async () => {
  server = await Server.start();
  server.tenant('oakhill', 'Oakhill School');
  server.people({ username: 'ann', name: 'Ann Lee', role: 'owner' }, { username: 'bob', name: 'Bob Ito', role: 'staff' }, { username: 'wang', name: '王敏' });
});
afterAll(async () => {
  await shut();
  await server?.close();
});

test('a wrong password says so, and the right one leads in', async () => {
  const page = await open(server);
  await accessible(page, 'sign-in');
  await page.locator('input[autocomplete=username]').fill('ann');
  await page.locator('#password').fill('wrong');
  await page.locator('form .btn').click();
  await page.getByText('not right').waitFor();
  await enter(page, 'ann');
  await page.getByText('Nothing here yet').waitFor();
  await accessible(page, 'empty list');
  clean(page);
  await page.context().close();
});

test('two people in two browsers chat, edit, recall, react and mention', async () => {
  const [ann, bob] = await Promise.all([signedIn(server, 'ann'), signedIn(server, 'bob', phone)]);
  await ann.getByRole('button', { name: 'New conversation' }).first().click();
  await ann.getByRole('button', { name: /^Group/ }).click();
  await ann.getByLabel('Name', { exact: true }).fill('Class 5a');
  await ann.getByPlaceholder('Type a name').fill('bob');
  await ann.getByRole('button', { name: /Bob Ito/ }).click();
  await ann.getByRole('button', { name: 'Create' }).click();
  await composer(ann).waitFor();

  await bob.getByRole('link', { name: /Class 5a/ }).click();
  await say(ann, 'Good morning, **everybody**');
  await log(bob).getByText('everybody').waitFor();
  expect(await log(bob).locator('strong').innerText()).toBe('everybody');
  await log(ann).getByLabel('Sent').or(log(ann).getByText('1 read')).first().waitFor();
  await log(ann).getByText('1 read').waitFor(); // Bob looks at it

  // Bob answers with a mention: the name is completed.
  await composer(bob).click();
  await composer(bob).pressSequentially('Hello @an');
  await bob.getByRole('option').first().click();
  await composer(bob).pressSequentially('how are you?');
  await bob.getByRole('button', { name: 'Send', exact: true }).click();
  await log(ann).locator('.at.me').waitFor();
  expect(await log(ann).locator('.at.me').innerText()).toBe('@Ann Lee');

  // Ann edits with ↑, Bob sees it.
  await composer(ann).press('ArrowUp');
  await expect.poll(() => composer(ann).inputValue()).toBe('Good morning, **everybody**');
  await composer(ann).fill('Good evening');
  await composer(ann).press('Enter');
  await log(bob).getByText('Good evening').waitFor();
  await log(bob).getByText('edited').waitFor();

  // Bob reacts by a long press.
  const bubble = log(bob).getByText('Good evening');
  await bubble.click({ button: 'right' });
  await bob.getByRole('menuitem', { name: '👍' }).click();
  await log(ann).getByRole('button', { name: '👍: 1' }).waitFor();
  await log(ann).getByRole('button', { name: '👍: 1' }).click();
  await log(bob).getByRole('button', { name: '👍: 2' }).waitFor();

  // Ann replies, pins and recalls.
  await log(ann).locator('article', { hasText: 'how are you?' }).hover();
  await log(ann).locator('article', { hasText: 'how are you?' }).getByRole('button', { name: 'Actions for this message' }).click();
  await ann.getByRole('menuitem', { name: 'Reply' }).click();
  await say(ann, 'Very well');
  await log(bob).locator('article', { hasText: 'Very well' }).locator('.quote').getByText('how are you?').waitFor();
  const last = log(ann).locator('article', { hasText: 'Very well' });
  await last.hover();
  await last.getByRole('button', { name: 'Actions for this message' }).click();
  await ann.getByRole('menuitem', { name: 'Recall' }).click();
  await ann.getByRole('button', { name: 'Recall' }).click();
  await log(bob).getByText('Ann Lee recalled a message').waitFor();
  expect(await bob.getByText('Very well').count()).toBe(0);
  await accessible(ann, 'conversation');
  await accessible(bob, 'conversation on a phone');
  clean(ann, bob);
  await ann.context().close();
  await bob.context().close();
});

test('kill -9 in the middle of a conversation: nothing is lost or doubled on the screen', async () => {
  const [ann, bob] = await Promise.all([signedIn(server, 'ann'), signedIn(server, 'bob')]);
  for (const p of [ann, bob]) await p.getByRole('link', { name: /Class 5a/ }).click();
  const want: string[] = [];
  for (let i = 0; i < 12; i++) {
    if (i === 4) await server.kill();
    if (i === 8) await server.run();
    want.push(`line ${i}`);
    await say(ann, `line ${i}`);
  }
  for (const p of [ann, bob]) {
    await log(p).getByText('line 11').waitFor();
    await expect.poll(async () => (await texts(p)).filter((t) => t.startsWith('line'))).toEqual(want);
  }
  await expect.poll(() => log(ann).getByLabel('Waiting to be sent').count()).toBe(0);
  // The same after a reload: what is on the screen is what is stored.
  await ann.reload();
  await expect.poll(async () => (await texts(ann)).filter((t) => t.startsWith('line'))).toEqual(want);
  clean(ann, bob);
  await ann.context().close();
  await bob.context().close();
});

test('offline: said plainly, seen things stay, what is written waits over a reload, and goes once', async () => {
  const ann = await signedIn(server, 'ann');
  await ann.getByRole('link', { name: /Class 5a/ }).click();
  await log(ann).getByText('line 11').waitFor();
  await composer(ann).fill('half a tho');
  await ann.context().setOffline(true);
  await ann.evaluate(() => dispatchEvent(new Event('offline')));
  await server.kill();
  await ann.getByText('No connection. What you write is sent later.').waitFor();
  await log(ann).getByText('line 11').waitFor();
  expect(await composer(ann).inputValue()).toBe('half a tho');
  await say(ann, 'written offline');
  await log(ann).getByLabel('Waiting to be sent').waitFor();
  expect(await log(ann).getByLabel('Sent').count()).toBeGreaterThan(0);
  await composer(ann).press('ArrowUp'); // edits the newest, which can't be yet: not the one before it
  expect(await composer(ann).inputValue()).toBe('');
  await ann.context().setOffline(false);
  await server.run();
  await expect.poll(() => log(ann).getByLabel('Waiting to be sent').count()).toBe(0);
  const robot = await server.robot('bob');
  const id = [...robot.conversations.values()].find((h) => h.title === 'Class 5a')!.id;
  const page = await robot.history(id, {}, 50);
  expect(page.entries.filter((e) => e.text === 'written offline').length).toBe(1);
  await robot.stop();
  clean(ann);
  await ann.context().close();
});
