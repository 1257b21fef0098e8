import { afterAll, beforeAll, expect, test } from 'vitest';
import { clean, composer, log, shut, signedIn, wrong } from './browser';
import { corpus, cut } from './corpus';
import { Server } from './server';

let server: Server;
beforeAll(async () => {
  server = await Server.start('--limits-sends-per-minute', '100000');
  server.tenant('evil', '<img src=x onerror=window.owned=1>');
  server.people({ username: 'ann', name: 'Ann', role: 'owner' }, { username: 'mal', name: '<img src=x onerror=window.owned=1>', role: 'owner' }, { username: 'mal2', name: '"><script>window.owned=1</script>', role: 'staff' });
});
afterAll(async () => {
  await shut();
  await server?.close();
});

test('hostile texts, titles and names are shown as they are and do nothing', async () => {
  const mal = await server.robot('mal');
  const ann = (await mal.request('user.search', { query: 'ann' })).users[0]!.id;
  const mal2 = (await mal.request('user.search', { query: 'mal2' })).users[0]!.id;
  for (const [i, text] of corpus.entries()) {
    const title = cut(text).trim() || 'x';
    await mal.request('conversation.create', { kind: i % 3 === 0 ? 'channel' : i % 3 === 1 ? 'notice' : 'group', title, members: [ann], key: `t${i}` });
  }
  const { id } = await mal.request('conversation.create', { kind: 'group', title: 'All of it', members: [ann, mal2], key: 'all' });
  let first = 0;
  for (const text of corpus) {
    const { seq } = await mal.send(id, text, { mentions: [ann], ...(first ? { reply_to: first } : {}) });
    first ||= seq;
  }
  await (await mal.enqueue('message.pin', { conversation: id, target: first, on: true })).done;
  for (const text of corpus.slice(0, 3)) await (await mal.enqueue('message.react', { conversation: id, target: first, emoji: text.slice(0, 1), on: true })).done.catch(() => {});

  const page = await signedIn(server, 'ann');
  await page.goto(`${server.url}/#/c/${id}`);
  await log(page).getByText('constructor', { exact: true }).waitFor();
  expect((await log(page).locator('article').count())).toBeGreaterThanOrEqual(corpus.length);
  for (const bad of ['[role=log] img', '[role=log] iframe', '[role=log] script', '[role=log] style', '[role=log] form', '[role=log] svg[onload]', 'base', 'meta[http-equiv=refresh]']) expect(await page.locator(bad).count(), bad).toBe(0);
  // Only http and https became links, and none has a handler.
  const links = await log(page).locator('a').evaluateAll((all) => all.map((a) => [(a as HTMLAnchorElement).protocol, a.getAttributeNames().join()]));
  for (const [protocol, names] of links) {
    expect(protocol).toMatch(/^https?:$/);
    expect(names).not.toMatch(/on/);
  }
  // Every place that shows a title, a name or a text.
  await page.locator('.pane header .icon').last().click();
  await page.locator('dialog li').first().waitFor();
  await page.keyboard.press('Escape');
  for (const to of ['notices', 'people', 'me', 'chats']) {
    await page.goto(`${server.url}/#/${to}`);
    await page.waitForTimeout(150);
  }
  for (const text of corpus.slice(0, 12)) {
    await page.getByRole('searchbox').first().fill(cut(text));
    await page.waitForTimeout(60);
  }
  await page.getByRole('searchbox').first().fill('<img');
  await page.waitForTimeout(400);
  await page.keyboard.press('Control+k');
  await page.getByRole('combobox', { name: 'Jump to' }).fill('<');
  await page.waitForTimeout(400);
  await page.keyboard.press('Escape');
  // And what one types oneself, over a reload.
  await page.goto(`${server.url}/#/c/${id}`);
  for (const text of corpus.slice(0, 6)) {
    await composer(page).fill(text);
    await page.reload();
    await composer(page).waitFor();
    expect(await composer(page).inputValue()).toBe(text);
  }
  await composer(page).press('Enter');
  await page.waitForTimeout(300);
  expect(await page.evaluate(() => (window as any).owned)).toBeUndefined();
  expect(page.url()).toContain(server.url);
  expect(await page.title()).toContain('<img src=x onerror=window.owned=1>');
  clean(page);
  await mal.stop();
  await page.context().close();
});

test('the policy itself bites: an inline script and an inline style are refused and fail the test', async () => {
  const page = await signedIn(server, 'ann');
  await page.evaluate(() => {
    const e = document.createElement('div');
    e.innerHTML = '<p style="color:red">x</p><img src="x" onerror="window.owned=1">';
    document.body.append(e);
  });
  await page.waitForTimeout(300);
  expect(await page.evaluate(() => (window as any).owned)).toBeUndefined();
  const said = wrong(page).join('\n');
  expect(said).toMatch(/Content Security Policy.*style/);
  expect(said).toMatch(/Content Security Policy.*script/);
  await page.context().close();
});
