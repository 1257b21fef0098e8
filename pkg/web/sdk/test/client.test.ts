import 'fake-indexeddb/auto';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { Client, IndexedDBStore, MemoryStore, type Entry, type State } from '../src/index.js';
import { FakeServer } from './fake_server.js';

let server: FakeServer;
let clients: Client[];
beforeEach(() => {
  server = new FakeServer();
  clients = [];
});
afterEach(async () => {
  vi.useRealTimers();
  for (const c of clients) await c.stop();
});

function connect(store = new MemoryStore() as ConstructorParameters<typeof Client>[0]['store'], more: object = {}) {
  const c = new Client({ url: 'http://x', token: 't', store, WebSocket: server.factory, random: () => 0, ...more });
  clients.push(c);
  return c;
}

const state = (c: Client, want: State) => vi.waitFor(() => expect(c.state).toBe(want));
const texts = () => server.logs.get('c_1')!.map((e) => e.text);

test('what was written offline is sent once, in order, over a restart of the program', async () => {
  const before = connect(await IndexedDBStore.open('restart'));
  await before.load();
  for (const text of ['one', 'two', 'three']) await before.enqueue('message.send', { conversation: 'c_1', text });
  const after = connect(await IndexedDBStore.open('restart'));
  await after.start();
  await vi.waitFor(() => expect(texts()).toEqual(['one', 'two', 'three']));
  await vi.waitFor(() => expect(after.outbox.waiting).toBe(0));
  expect(await after.store.all('outbox')).toEqual([]);
});

test('a reply that is lost does not double a message, and the resent request is the same', async () => {
  server.loseReplies = 2;
  const c = connect();
  await c.start();
  await state(c, 'online');
  const done = c.send('c_1', 'hello');
  expect((await done).seq).toBe(1);
  expect(texts()).toEqual(['hello']);
  const sends = server.seen.filter((r) => r.method === 'message.send').map((r) => r.params);
  expect(sends.length).toBe(3);
  expect(sends[1]).toEqual(sends[0]);
});

test('the outbox goes before the pulls', async () => {
  const c = connect(undefined, { followAll: true });
  await c.start();
  await state(c, 'online');
  for (const s of [...server.sockets]) s.break(1006);
  server.append('c_1', { text: 'meanwhile' });
  server.seen = [];
  await c.enqueue('message.send', { conversation: 'c_1', text: 'mine' });
  await vi.waitFor(() => expect(server.seen.map((r) => r.method)).toContain('message.history'));
  const order = server.seen.map((r) => r.method);
  expect(order.indexOf('message.send')).toBeLessThan(order.indexOf('message.history'));
});

test('a refusal fails the item with its reason; retry sends the same key', async () => {
  server.refuse = (m) => (m === 'message.send' ? { code: -32003, message: 'You may not.', data: { kind: 'forbidden' } } : undefined);
  const c = connect();
  await c.start();
  await state(c, 'online');
  const { item } = await c.enqueue('message.send', { conversation: 'c_1', text: 'x' });
  await vi.waitFor(() => expect(item.state).toBe('failed'));
  expect(item.error).toMatchObject({ kind: 'forbidden', message: 'You may not.' });
  server.refuse = undefined;
  await c.outbox.retry(item.key);
  await vi.waitFor(() => expect(texts()).toEqual(['x']));
  expect(server.keys.has(item.key)).toBe(true);
});

test('rate limits hold the whole outbox for as long as the server said', async () => {
  let refused = 0;
  server.refuse = (m) => (m === 'message.send' && refused++ === 0 ? { code: -32008, message: 'slow', data: { kind: 'rate_limited', retry_after_ms: 300 } } : undefined);
  const c = connect();
  await c.start();
  await state(c, 'online');
  const began = Date.now();
  await c.enqueue('message.send', { conversation: 'c_1', text: 'a' });
  const second = await c.enqueue('message.send', { conversation: 'c_1', text: 'b' });
  await vi.waitFor(() => expect(c.outbox.pause?.why).toBe('rate_limited'));
  await second.done;
  expect(texts()).toEqual(['a', 'b']);
  expect(Date.now() - began).toBeGreaterThanOrEqual(300);
});

test('close codes: sign in again, stop, come back within the time that was asked', async () => {
  for (const [code, reason, want] of [[4101, '', 'signed-out'], [4202, '', 'stopped'], [4002, 'retry_ms=60000', 'offline']] as const) {
    const c = connect(undefined, { random: () => 0.5 });
    await c.start();
    await state(c, 'online');
    for (const s of [...server.sockets]) s.break(code, reason);
    expect(c.state).toBe(want);
    if (want === 'offline') expect(c.retryAt - Date.now()).toBeGreaterThan(29_000);
    await c.stop();
  }
});

test('a server that is away is knocked at with growing pauses, and no storm', async () => {
  server.deaf = true;
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval', 'Date', 'performance'] });
  const c = connect(undefined, { random: () => 0.999 });
  await c.start();
  await vi.advanceTimersByTimeAsync(10 * 60_000);
  expect(c.attempts).toBeGreaterThan(15);
  expect(c.attempts).toBeLessThan(30);
});

test('after a sleep a dead connection is noticed within a second and one request brings everything', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval', 'Date', 'performance'] });
  const c = connect();
  await c.start();
  await vi.advanceTimersByTimeAsync(10);
  expect(c.state).toBe('online');
  const t = c.timeline('c_1');
  await t.toNewest();
  const socket = [...server.sockets][0]!;
  server.sockets.delete(socket); // the server forgot it; nobody told us
  socket.send = () => {};
  for (let i = 0; i < 30; i++) server.append('c_1', { text: `m${i}` });
  vi.setSystemTime(Date.now() + 30 * 60_000);
  await vi.advanceTimersByTimeAsync(6_000); // silent for longer than a wake-up trusts
  server.seen = [];
  for (let i = 0; i < 5; i++) c.wake(); // visible, online, focus: they come together
  await vi.advanceTimersByTimeAsync(1_300);
  expect(t.items.length).toBe(30);
  expect(server.seen.map((r) => r.method)).toEqual(['session.hello', 'message.history']);
  expect(c.attempts).toBe(2);
});

test('an attempt from before the network came back costs no back-off, and one that hangs is given up', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval', 'Date', 'performance'] });
  for (const hangs of [false, true]) {
    server.deaf = true;
    const c = connect(undefined, { random: () => 0.999 });
    await c.start();
    await vi.advanceTimersByTimeAsync(60_000);
    server.deaf = false;
    server.hung = [];
    while (server.hung.length === 0) await vi.advanceTimersByTimeAsync(100);
    await vi.advanceTimersByTimeAsync(hangs ? 2_000 : 500);
    const [socket] = server.hung;
    server.hung = undefined;
    const tried = c.attempts;
    for (let i = 0; i < 3; i++) c.wake();
    if (!hangs) socket!.break(1006);
    await vi.advanceTimersByTimeAsync(300);
    expect(c.state).toBe('online');
    expect(c.attempts).toBe(tried + 1);
    await c.stop();
  }
});

test('when the network is said to be gone, silence means offline within a second, and an answer means nothing', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval', 'Date', 'performance'] });
  const c = connect();
  await c.start();
  await vi.advanceTimersByTimeAsync(10);
  const states: string[] = [];
  c.on('state', (s) => states.push(s));
  c.doubt(); // the box answers: it is on the same wire
  await vi.advanceTimersByTimeAsync(2_000);
  expect(states).toEqual([]);
  const socket = [...server.sockets][0]!;
  server.sockets.delete(socket);
  socket.send = () => {};
  server.deaf = true;
  c.doubt();
  await vi.advanceTimersByTimeAsync(1_000);
  expect(states[0]).toBe('offline');
});

test('followAll delivers every entry once and in order over broken connections', async () => {
  const c = connect(undefined, { followAll: true });
  const got: number[] = [];
  c.on('entry', (e: Entry) => got.push(e.seq));
  await c.start();
  await state(c, 'online');
  for (let i = 1; i <= 600; i++) {
    const e = server.append('c_1', { text: `${i}` });
    if (i % 7 !== 0) server.tell(e); // an event that got lost
    if (i % 100 === 0) for (const s of [...server.sockets]) s.break(4001);
    if (i % 50 === 0) await new Promise((r) => setTimeout(r, 1));
  }
  for (const s of [...server.sockets]) s.break(1006);
  await vi.waitFor(() => expect(got.length).toBe(600));
  expect(got).toEqual(Array.from({ length: 600 }, (_, i) => i + 1));
});

test('another epoch drops what was seen and keeps the outbox', async () => {
  const store = new MemoryStore();
  server.append('c_1', { text: 'old' });
  const c = connect(store);
  await c.start();
  await state(c, 'online');
  await store.write([{ table: 'pages', key: 'c_1', value: { low: 1, high: 1, items: [] } }]);
  let reset = 0;
  c.on('reset', () => reset++);
  server.epoch = 'e_2';
  server.logs.set('c_1', []);
  server.keys.clear();
  server.refuse = (m) => (m === 'message.send' ? { code: -32009, message: 'full', data: { kind: 'unavailable' } } : undefined);
  await c.enqueue('message.send', { conversation: 'c_1', text: 'kept' });
  for (const s of [...server.sockets]) s.break(1006);
  await vi.waitFor(() => expect(reset).toBe(1));
  expect(await store.all('pages')).toEqual([]);
  server.refuse = undefined;
  for (const s of [...server.sockets]) s.break(1006);
  await vi.waitFor(() => expect(texts()).toEqual(['kept']));
});

test('a list of several pages is one list, and what no page names goes when it was full', async () => {
  server.logs.set('c_2', []);
  const store = new MemoryStore();
  await store.write([{ table: 'heads', key: 'c_gone', value: { id: 'c_gone', kind: 'group' } }]);
  const c = connect(store);
  await c.start();
  await state(c, 'online');
  expect([...c.conversations.keys()].sort()).toEqual(['c_1', 'c_2']);
});
