/** What is the matter is said plainly, and nothing that was typed is lost. */
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import type { Page } from 'playwright-core';
import { accessible, clean, composer, log, open, phone, say, shut, signedIn } from './browser';
import { password, Server } from './server';

let server: Server;
let group = '';
const pages: Page[] = [];
beforeAll(async () => {
  server = await Server.start('--limits-sends-per-minute', '60');
  server.tenant('oakhill', 'Oakhill School');
  server.people({ username: 'ann', name: 'Ann Lee', role: 'owner' }, { username: 'bob', name: 'Bob Ito' }, { username: 'zhou', name: '周子涵' });
  const ann = await server.robot('ann');
  const find = async (q: string) => (await ann.request('user.search', { query: q })).users[0]!.id;
  group = (await ann.request('conversation.create', { kind: 'group', title: 'Class 5a', members: [await find('bob'), await find('zhou')], key: 'k' })).id;
  await ann.stop();
}, 120_000);
afterEach(async () => {
  for (const p of pages.splice(0)) await p.context().close();
});
afterAll(async () => {
  await shut();
  await server?.close();
});

async function inGroup(username: string, options?: object): Promise<Page> {
  const page = await signedIn(server, username, options);
  pages.push(page);
  await page.goto(`${server.url}/#/c/${group}`);
  await composer(page).waitFor();
  return page;
}

/** How often a text is in the log of the group. */
async function stored(text: string): Promise<number> {
  const robot = await server.robot('ann');
  const all = (await robot.history(group, {}, 200)).entries.filter((e) => e.text === text).length;
  await robot.stop();
  return all;
}

test('suspended: said, the draft is kept, and it goes on afterwards', async () => {
  const page = await inGroup('bob');
  await composer(page).fill('half a tho');
  server.tool(['tenant', 'suspend', 'oakhill']);
  await page.getByRole('heading', { name: 'This organisation is suspended' }).waitFor();
  await page.getByText('Nothing is lost.').waitFor();
  await accessible(page, 'suspended');
  server.tool(['tenant', 'resume', 'oakhill']);
  await page.getByRole('button', { name: 'Try again' }).click();
  // Whether suspending ended the sign-in or not: the person is in again, and the draft is there.
  await page.locator('.shell, #password').first().waitFor();
  if (await page.locator('#password').count()) {
    await page.locator('input[autocomplete=username]').fill('bob');
    await page.locator('#password').fill(password);
    await page.locator('form .btn').click();
  }
  await page.goto(`${server.url}/#/c/${group}`);
  await composer(page).waitFor();
  expect(await composer(page).inputValue()).toBe('half a tho');
  clean(page);
});

test('the box is full: said, what is written waits, and goes once there is space', async () => {
  const page = await inGroup('bob', { ...phone, locale: 'zh-CN' });
  await server.kill();
  server.flags.push('--storage-low-water-bytes', '1TiB');
  await server.run();
  await expect.poll(() => page.getByText('网络断开了').count()).toBe(0);
  await composer(page).fill('满了也不丢');
  await page.getByRole('button', { name: '发送', exact: true }).click();
  await page.getByText('设备存储已满。消息不会丢').waitFor();
  await log(page).getByLabel('等待发送').waitFor();
  await accessible(page, 'full');
  await page.reload();
  await log(page).getByText('满了也不丢').waitFor();
  await server.kill();
  server.flags.splice(-2);
  await server.run();
  await expect.poll(() => log(page).getByLabel('等待发送').count()).toBe(0);
  expect(await stored('满了也不丢')).toBe(1);
  clean(page);
});

test('too fast: said with the seconds, and all of it goes in order', async () => {
  await server.kill();
  server.flags.splice(0, 2, '--limits-sends-per-minute', '6'); // one in ten seconds: a busy machine types within that
  await server.run();
  const page = await inGroup('zhou');
  const want = Array.from({ length: 40 }, (_, i) => `fast ${i}`);
  const robot = await server.robot('zhou'); // uses up the person's share
  for (const t of want) void robot.send(group, t).catch(() => {});
  await expect.poll(() => robot.outbox.pause, { interval: 20 }).toBeTruthy();
  await robot.stop();
  await say(page, 'typed by hand');
  await page.getByText(/A moment… sending goes on in \d+ seconds?/).waitFor();
  await accessible(page, 'too fast');
  await expect.poll(() => log(page).getByLabel('Waiting to be sent').count(), { timeout: 90_000 }).toBe(0);
  expect(await stored('typed by hand')).toBe(1);
  await server.kill();
  server.flags.splice(0, 2, '--limits-sends-per-minute', '60'); // as before
  await server.run();
  clean(page);
});

test('quiet hours: said with the time, what is written waits, and goes when they end', async () => {
  const page = await inGroup('bob');
  server.tool(['policy', 'set', `quiet.member=${new Date().getHours() === 23 ? '12:00-11:59' : '00:00-23:59'}`]);
  await say(page, 'late thought');
  await page.getByText(/Quiet hours\. What you write is sent at \d\d:\d\d\./).waitFor();
  await log(page).getByLabel('Waiting to be sent').waitFor();
  expect(await stored('late thought')).toBe(0);
  await accessible(page, 'quiet hours');
  server.tool(['policy', 'set', 'quiet.member=off']);
  await page.reload();
  await expect.poll(() => stored('late thought')).toBe(1);
  await expect.poll(() => log(page).getByLabel('Waiting to be sent').count()).toBe(0);
  clean(page);
});

test('a class that is over: said, its messages can be read, and nothing can be sent', async () => {
  const owner = await signedIn(server, 'ann');
  pages.push(owner);
  const bob = (await owner.evaluate(async () => (await fetch('/v1/users')).json())).users.find((u: { username: string }) => u.username === 'bob').id;
  const made = await owner.evaluate(
    async (bob) => (await fetch('/v1/classes', { method: 'POST', headers: { 'Content-Type': 'application/json', 'Idempotency-Key': 'c1' }, body: JSON.stringify({ name: 'Class 6b', students: [bob] }) })).json(),
    bob,
  );
  const page = await signedIn(server, 'bob');
  pages.push(page);
  await page.getByRole('link', { name: /Class 6b/ }).first().click();
  await composer(page).fill('before the end');
  await composer(page).press('Enter');
  await log(page).getByText('before the end').waitFor();
  await composer(page).fill('half a tho');
  await owner.evaluate(async (id) => fetch(`/v1/classes/${id}`, { method: 'PATCH', headers: { 'Content-Type': 'application/json' }, body: '{"archived":true}' }), made.id);
  await page.getByText('This conversation is over. It can be read.').waitFor();
  expect(await composer(page).count()).toBe(0);
  await log(page).getByText('before the end').waitFor();
  await accessible(page, 'archived');
  clean(page, owner);
});

for (const [locale, words] of [['en-GB', 'No connection. What you write is sent later.'], ['zh-CN', '网络断开了']] as const)
  test(`the bar of a lost connection has two lines at most on a small phone: ${locale}`, async () => {
    const page = await inGroup('ann', { ...phone, viewport: { width: 320, height: 640 }, locale });
    for (const width of [360, 320]) {
      await page.setViewportSize({ width, height: 640 });
      await page.context().setOffline(true);
      await page.evaluate(() => dispatchEvent(new Event('offline')));
      await page.getByText(words).waitFor();
      const lines = await page.locator('.bar .offline').evaluate((bar) => {
        const { lineHeight, paddingTop, paddingBottom } = getComputedStyle(bar);
        return Math.floor((bar.clientHeight - parseFloat(paddingTop) - parseFloat(paddingBottom)) / parseFloat(lineHeight)); // the button is a little higher than a line
      });
      expect(lines, `${width} px`).toBeLessThanOrEqual(2);
      await page.context().setOffline(false);
      await page.evaluate(() => dispatchEvent(new Event('online')));
      await expect.poll(() => page.getByText(words).count()).toBe(0);
    }
    clean(page);
  });

test('on a phone one’s own newest stays in sight when the bar of a lost connection comes over the log', async () => {
  const robot = await server.robot('zhou');
  for (let i = 0; i < 15; i++) await robot.send(group, `line ${i}`);
  await robot.stop();
  const page = await inGroup('ann', { ...phone, locale: 'en-GB' });
  await log(page).getByText('line 14').waitFor();
  for (let i = 0; i < 4; i++) {
    await page.context().setOffline(true);
    await composer(page).fill(`written offline ${i}`);
    // What was written and the bar come in one frame.
    await page.evaluate(() => {
      document.querySelector<HTMLButtonElement>('button[aria-label=Send]')!.click();
      dispatchEvent(new Event('offline'));
    });
    await page.getByText('No connection. What you write is sent later.').waitFor();
    await log(page).getByText(`written offline ${i}`).waitFor();
    await page.waitForTimeout(300);
    const hidden = await log(page).evaluate((box) => [...box.querySelectorAll('article')].at(-1)!.getBoundingClientRect().bottom - box.getBoundingClientRect().bottom);
    expect(hidden, `px below the edge, time ${i}`).toBeLessThanOrEqual(0);
    await page.context().setOffline(false);
    await page.evaluate(() => dispatchEvent(new Event('online')));
    await expect.poll(() => log(page).getByLabel('Waiting to be sent').count()).toBe(0);
  }
  clean(page);
});
