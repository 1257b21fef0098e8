/** The page as an app: manifest, service worker, offline start, and a newer version. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { clean, composer, enter, log, open, phone, say, shut } from './browser';
import { Proxy } from './proxy';
import { Server } from './server';

let server: Server;
let proxy: Proxy;
let group = '';
beforeAll(async () => {
  server = await Server.start();
  server.tenant('oakhill', 'Oakhill School');
  server.people({ username: 'ann', name: 'Ann Lee', role: 'owner' }, { username: 'bob', name: 'Bob Ito' });
  const ann = await server.robot('ann');
  const bob = (await ann.request('user.search', { query: 'bob' })).users[0]!.id;
  group = (await ann.request('conversation.create', { kind: 'group', title: 'Class 5a', members: [bob], key: 'k' })).id;
  const { seq } = await ann.send(group, 'seen before the cut');
  const reader = await server.robot('bob');
  await reader.read(group, seq);
  await reader.stop();
  await ann.stop();
  proxy = await Proxy.start(server.port);
}, 120_000);
afterAll(async () => {
  await shut();
  proxy?.close();
  await server?.close();
});

const controlled = (page: import('playwright-core').Page) => expect.poll(() => page.evaluate(() => navigator.serviceWorker.controller?.state)).toBe('activated');

/** What the browser keeps of the group; it is written now and then. */
const kept = (page: import('playwright-core').Page) =>
  page.evaluate(async (id) => {
    const done = <T>(r: IDBRequest<T>) => new Promise<T>((resolve, reject) => ((r.onsuccess = () => resolve(r.result)), (r.onerror = () => reject(r.error))));
    const db = await done(indexedDB.open((await indexedDB.databases())[0]!.name!));
    const row = await done(db.transaction('pages').objectStore('pages').get(id));
    db.close();
    return row;
  }, group);

test('it can be installed, and opens without the server with what was seen', async () => {
  const page = await open(server, phone);
  const cdp = await page.context().newCDPSession(page);
  const m = await cdp.send('Page.getAppManifest');
  expect(m.errors).toEqual([]);
  expect(JSON.parse(m.data!)).toMatchObject({ name: 'Pipit', start_url: '/', display: 'standalone' });
  await enter(page, 'ann');
  await page.goto(`${server.url}/#/c/${group}`);
  await log(page).getByText('seen before the cut').waitFor();
  await controlled(page);
  await expect.poll(async () => (await cdp.send('Page.getInstallabilityErrors')).installabilityErrors.map((e) => e.errorId).filter((e) => e !== 'in-incognito')).toEqual([]);
  await log(page).getByText('1 read').waitFor();
  await expect.poll(() => kept(page)).toMatchObject({ items: [{ text: 'seen before the cut' }], readers: { count: 1 } });
  await server.kill();
  await page.reload();
  await log(page).getByText('seen before the cut').waitFor();
  await log(page).getByText('1 read').waitFor();
  await page.getByText('No connection. What you write is sent later.').waitFor();
  await composer(page).fill('written without a server');
  await page.getByRole('button', { name: 'Send', exact: true }).click();
  await log(page).getByLabel('Waiting to be sent').waitFor();
  await page.reload(); // again from what is here, with what was written
  await log(page).getByText('written without a server').waitFor();
  await server.run();
  await expect.poll(() => log(page).getByLabel('Waiting to be sent').count()).toBe(0);
  await log(page).getByText('written without a server').waitFor();
  clean(page);
  await page.context().close();
});

/** Somebody writes in the group, and the server has a newer build: the worker has found it, and the page has said so. */
async function outdated(at: string) {
  proxy.own.clear();
  const page = await open(server, undefined, undefined, at, [proxy.port]);
  await enter(page, 'ann');
  await page.goto(`${at}/#/c/${group}`);
  await composer(page).waitFor();
  await controlled(page);
  await composer(page).fill('half a tho');

  // Another main file, and the old one is gone.
  const html = await fetch(`${server.url}/`).then((r) => r.text());
  const main = /\/assets\/index-[\w-]+\.js/.exec(html)![0];
  const next = main.replace(/index-/, 'index-newer');
  const code = await fetch(server.url + main).then((r) => r.text());
  const worker = await fetch(`${server.url}/worker.js`).then((r) => r.text());
  proxy.own.set(next, { type: 'text/javascript', body: `window.newer = true;\n${code}` });
  proxy.own.set('/', { type: 'text/html', body: html.replaceAll(main, next) });
  proxy.own.set('/worker.js', { type: 'text/javascript', body: worker.replaceAll(main, next).replace(/'pipit-' \+ "\w+"/, `'pipit-newer'`) });
  expect(proxy.own.get('/worker.js')!.body).toContain(`'pipit-newer'`);

  await page.evaluate(() => navigator.serviceWorker.getRegistration().then((r) => r!.update()));
  await page.getByText('There is a newer version of this page.').waitFor();
  expect(await page.evaluate(() => (window as any).newer)).toBeUndefined();
  expect(await composer(page).inputValue()).toBe('half a tho');
  const loads: string[] = []; // the pages that are asked for from now on
  page.on('request', (r) => r.isNavigationRequest() && loads.push(r.url()));
  return { page, loads };
}

test('a newer version takes over without losing what is being written', async () => {
  const at = `http://127.0.0.1:${proxy.port}`;
  const { page, loads } = await outdated(at);
  await page.getByRole('button', { name: 'Use it now' }).click();
  await expect.poll(() => page.evaluate(() => (window as any).newer).catch(() => false)).toBe(true);
  await composer(page).waitFor();
  expect(await composer(page).inputValue()).toBe('half a tho');
  expect(page.url()).toContain(group);
  await say(page, 'sent by the newer one');
  await expect.poll(() => log(page).getByLabel('Sent').count()).toBeGreaterThan(0);
  expect(loads).toEqual([`${at}/`]); // once: a page that is hidden because it is left does not reload again
  // Old files are not kept for ever.
  expect(await page.evaluate(() => caches.keys())).toEqual(['pipit-newer']);
  clean(page);
  await page.context().close();
});

test('a newer version does not bring back who goes elsewhere', async () => {
  const { page, loads } = await outdated(`http://127.0.0.1:${proxy.port}`);
  const away = `${server.url}/t/oakhill/signin`; // as to a provider
  await page.evaluate((to) => void (location.href = to), away);
  await page.getByText('Forgot your password?').waitFor();
  expect(page.url()).toBe(away);
  expect(loads).toEqual([away]);
  await page.context().close();
});
