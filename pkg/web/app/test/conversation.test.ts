/** What a conversation keeps for offline use, with the SDK's client and a server in memory. */
import { Client, MemoryStore, type Change } from '@pipit/sdk';
import { afterEach, expect, test, vi } from 'vitest';
import { FakeServer } from '../../sdk/test/fake_server';
import { Conversation } from '../src/state/conversation.svelte';

// The session and the names are the browser's; the conversation reads these few things of them.
const session = vi.hoisted(() => ({ client: undefined as Client | undefined, user: { id: 'u_1' }, heads: new Map(), get state() { return this.client?.state } }));
vi.mock('../src/state/session.svelte', () => ({ session }));
vi.mock('../src/state/people.svelte', () => ({ people: { watch: () => () => {}, know: () => {} } }));
vi.mock('../src/i18n/i18n.svelte', () => ({ daysAgo: () => 0 }));

class CountingStore extends MemoryStore {
  pages = 0;
  override async write(changes: Change[]): Promise<void> {
    this.pages += changes.filter((c) => c.table === 'pages').length;
    return super.write(changes);
  }
}

let server = new FakeServer();
let open: Conversation | undefined;

/** A page that was loaded: its client, and the conversation that it shows. */
async function page(store: MemoryStore): Promise<Conversation> {
  const client = new Client({ url: 'http://x', token: 't', store, WebSocket: server.factory, random: () => 0 });
  await client.load();
  session.client = client;
  session.heads = client.conversations as Map<string, never>;
  void client.start();
  if (!server.deaf) await vi.waitFor(() => expect(client.state).toBe('online'));
  return (open = new Conversation('c_1'));
}

async function leave(): Promise<void> {
  open?.close();
  open = undefined;
  await session.client?.stop();
}

const read = (seq: number) => {
  server.readers++;
  for (const s of server.sockets) s.push({ jsonrpc: '2.0', method: 'read', params: { conversation: 'c_1', user: `u_${server.readers + 1}`, seq } });
};

afterEach(async () => {
  vi.useRealTimers();
  await leave();
  server = new FakeServer();
});

test('how many have read one’s newest message is there without a connection, and right again with one', async () => {
  const store = new CountingStore();
  server.append('c_1', { by: 'u_1', text: 'mine' });
  let c = await page(store);
  await vi.waitFor(() => expect(c.loaded).toBe(true));
  read(1);
  read(1);
  await vi.waitFor(() => expect(c.readers).toEqual({ seq: 1, count: 2 }));
  await leave();

  server.deaf = true;
  c = await page(store);
  await vi.waitFor(() => expect(c.readers).toEqual({ seq: 1, count: 2 }));

  server.readers = 3; // while nothing was heard: no event says so
  server.deaf = false;
  session.client!.wake();
  await vi.waitFor(() => expect(c.readers).toEqual({ seq: 1, count: 3 }), { timeout: 10_000 });
});

test('a count is not shown under a message that is newer than it', async () => {
  const store = new CountingStore();
  server.append('c_1', { by: 'u_1', text: 'mine' });
  server.readers = 2;
  let c = await page(store);
  await vi.waitFor(() => expect(c.readers).toEqual({ seq: 1, count: 2 }));
  await leave();
  server.append('c_1', { by: 'u_1', text: 'from another device' });
  server.readers = 0;
  c = await page(store);
  await vi.waitFor(() => expect(c.items.length).toBe(2));
  expect(c.readers?.seq).not.toBe(2);
  await vi.waitFor(() => expect(c.readers).toEqual({ seq: 2, count: 0 }));
});

test('a class that reads one after the other is a few writes, and only what changed is written', async () => {
  vi.useFakeTimers();
  const store = new CountingStore();
  server.append('c_1', { by: 'u_1', text: 'mine' });
  const c = await page(store);
  await vi.advanceTimersByTimeAsync(5_000);
  expect(c.readers).toEqual({ seq: 1, count: 0 });
  const before = store.pages;
  for (let i = 0; i < 30; i++) {
    read(1);
    await vi.advanceTimersByTimeAsync(500); // long enough that each is counted
  }
  await vi.advanceTimersByTimeAsync(5_000);
  expect(c.readers).toEqual({ seq: 1, count: 30 });
  expect(store.pages - before).toBeLessThanOrEqual(11);
  const after = store.pages;
  // A mark of somebody who had read it before changes nothing.
  server.readers--;
  read(1);
  await vi.advanceTimersByTimeAsync(5_000);
  expect(store.pages).toBe(after);
});
