/**
 * The outbox: what the user asked for and the server has not yet confirmed. An
 * item is stored before it is sent, sent unchanged under its key until a reply
 * comes, and removed only then; so it is carried out exactly once (PROTOCOL 6.2)
 * over reloads, crashes and lost connections. Items of one conversation go one
 * after the other, so that they are appended in the order they were written.
 */
import type { Connection } from './connection.js';
import type { KeyedMethod, Methods } from './protocol.gen.js';
import type { Store } from './store.js';
import { ConnectionLost, PipitError } from './wire.js';

export interface OutboxItem<M extends KeyedMethod = KeyedMethod> {
  key: string;
  method: M;
  params: Methods[M]['params'];
  /** Local time when it was written, in ms. */
  created: number;
  /** Its place in the outbox. */
  order: number;
  /** `sent`: confirmed, kept in memory until its entry is on the screen. */
  state: 'waiting' | 'sending' | 'sent' | 'failed';
  /** Why it failed; the text is the server's, for people. */
  error?: { kind: string; message: string; field?: string };
  result?: Methods[M]['result'];
}

/** Why nothing is sent at the moment, though connected. */
export interface Pause {
  why: 'rate_limited' | 'unavailable';
  /** Local time in ms at which it goes on. */
  until: number;
}

export class Outbox {
  readonly items: OutboxItem[] = [];
  pause: Pause | undefined;
  private connection: Connection | undefined;
  private readonly lanes = new Set<string>(); // conversations with a request under way
  private readonly settle = new Map<string, { resolve(v: any): void; reject(e: Error): void }>();
  private readonly tries = new Map<string, number>();
  private readonly quiet = new Map<string, number>(); // conversations in quiet hours, and until when
  private timer: ReturnType<typeof setTimeout> | undefined;
  private order = 0;
  private failures = 0;
  private idle: Array<() => void> = [];

  constructor(private readonly store: Store, private readonly changed: (item?: OutboxItem) => void) {}

  /** Brings back what an earlier run left. */
  async load(): Promise<void> {
    for (const [, item] of await this.store.all<OutboxItem>('outbox')) {
      if (this.items.some((i) => i.key === item.key)) continue;
      if (item.state !== 'failed') item.state = 'waiting';
      this.items.push(item);
    }
    this.items.sort((a, b) => a.order - b.order);
    this.order = Math.max(Date.now() * 1000, ...this.items.map((i) => i.order + 1));
    this.changed();
  }

  /**
   * Stores a request and sends it when it can be. The first promise resolves
   * when it is stored: from then on it can't be lost. `done` settles with the
   * server's answer, perhaps much later.
   */
  async add<M extends KeyedMethod>(method: M, params: Omit<Methods[M]['params'], 'key'>): Promise<{ item: OutboxItem<M>; done: Promise<Methods[M]['result']> }> {
    const key = newKey();
    const item = { key, method, params: { ...params, key } as Methods[M]['params'], created: Date.now(), order: this.order++, state: 'waiting' } as OutboxItem<M>;
    await this.store.write([{ table: 'outbox', key, value: item }]);
    const done = new Promise<Methods[M]['result']>((resolve, reject) => this.settle.set(key, { resolve, reject }));
    done.catch(() => {}); // whoever does not wait for it sees the item's state
    this.items.push(item as unknown as OutboxItem);
    this.changed(item as unknown as OutboxItem);
    this.pump();
    return { item, done };
  }

  /** Tries a failed item again: a refused request left no trace of its key. */
  async retry(key: string): Promise<void> {
    const item = this.find(key);
    if (!item || item.state !== 'failed') return;
    item.state = 'waiting';
    delete item.error;
    this.tries.delete(key);
    await this.store.write([{ table: 'outbox', key, value: plain(item) }]);
    this.changed(item);
    this.pump();
  }

  /** Removes an item that is not under way; true if it was there. */
  async discard(key: string): Promise<boolean> {
    const item = this.find(key);
    if (!item || item.state === 'sending') return false;
    this.remove(item);
    await this.store.write([{ table: 'outbox', key }]);
    this.changed(item);
    return true;
  }

  /** Forgets a confirmed item: its entry is on the screen. */
  seen(conversation: string, seq: number): void {
    const item = this.items.find((i) => i.state === 'sent' && (i.params as { conversation?: string }).conversation === conversation && (i.result as { seq?: number })?.seq === seq);
    if (!item) return;
    this.remove(item);
    this.changed(item);
  }

  /** Forgets all confirmed items. */
  shown(): void {
    for (const i of this.items.filter((i) => i.state === 'sent')) this.remove(i);
    this.changed();
  }

  /** The connection is ready. Resolves when everything that can go has gone (PROTOCOL 3.6: before the pulls). */
  attach(c: Connection): Promise<void> {
    this.connection = c;
    this.lanes.clear();
    if (this.pause?.why === 'unavailable') this.pause = undefined; // perhaps it was mended meanwhile
    this.pump();
    return new Promise((resolve) => {
      this.idle.push(resolve);
      this.rest();
    });
  }

  detach(): void {
    this.connection = undefined;
    for (const i of this.items) if (i.state === 'sending') i.state = 'waiting';
    this.changed();
    this.rest();
  }

  /** How many items wait for the server. */
  get waiting(): number {
    return this.items.filter((i) => i.state === 'waiting' || i.state === 'sending').length;
  }

  private find(key: string): OutboxItem | undefined {
    return this.items.find((i) => i.key === key);
  }

  private remove(item: OutboxItem): void {
    const at = this.items.indexOf(item);
    if (at >= 0) this.items.splice(at, 1);
    this.tries.delete(item.key);
  }

  private pump(): void {
    if (this.pause && Date.now() < this.pause.until) return;
    if (this.pause) {
      this.pause = undefined;
      this.changed();
    }
    const c = this.connection;
    if (!c) return;
    for (const item of this.items) {
      const lane = laneOf(item);
      if ((this.quiet.get(lane) ?? 0) > Date.now()) continue;
      if (item.state !== 'waiting' || this.lanes.has(lane)) continue;
      this.lanes.add(lane);
      item.state = 'sending';
      this.changed(item);
      void this.send(c, item, lane);
    }
  }

  private async send(c: Connection, item: OutboxItem, lane: string): Promise<void> {
    try {
      const result = await c.request(item.method, item.params as never);
      item.result = result as never;
      item.state = 'sent';
      this.failures = 0;
      await this.store.write([{ table: 'outbox', key: item.key }]);
      const { seq, repeat } = result as { seq?: number; repeat?: boolean };
      if (seq === undefined || (repeat && item.method !== 'message.send')) this.remove(item); // no event will come
      this.settle.get(item.key)?.resolve(result);
      this.settle.delete(item.key);
    } catch (e) {
      await this.refused(item, e);
    }
    if (this.connection === c) this.lanes.delete(lane);
    this.changed(item);
    this.pump();
    this.rest();
  }

  private async refused(item: OutboxItem, e: unknown): Promise<void> {
    item.state = 'waiting';
    if (e instanceof ConnectionLost) return;
    const retry = e instanceof PipitError ? e.retry : 'once';
    const tries = (this.tries.get(item.key) ?? 0) + 1;
    this.tries.set(item.key, tries);
    if (retry === 'sign-in') return;
    if (e instanceof PipitError && e.reason === 'quiet_hours') return this.hush(laneOf(item), e.retryAfterMs ?? 60_000);
    if (retry === 'then') return this.hold('rate_limited', (e as PipitError).retryAfterMs ?? 1000);
    if (retry === 'later') return this.hold('unavailable', Math.random() * Math.min(30_000, 1000 * 2 ** this.failures++) + 500);
    if (retry === 'once' && tries < 2) return this.hold('unavailable', 500 + Math.random() * 500);
    item.state = 'failed';
    item.error = e instanceof PipitError ? { kind: e.kind, message: e.message, field: e.field } : { kind: 'internal', message: String(e) };
    await this.store.write([{ table: 'outbox', key: item.key, value: plain(item) }]);
    this.settle.get(item.key)?.reject(e as Error);
    this.settle.delete(item.key);
  }

  private hold(why: Pause['why'], ms: number): void {
    this.pause = { why, until: Date.now() + ms };
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.pump(), ms + 1);
  }

  /** Quiet hours: the messages of a conversation wait in their order, and that is no failure. */
  private hush(lane: string, ms: number): void {
    this.quiet.set(lane, Date.now() + ms);
    // Asked again within the hour at the latest: the hours may have been changed meanwhile.
    setTimeout(() => {
      this.quiet.delete(lane);
      this.pump();
    }, Math.min(ms + 1, 3_600_000));
  }

  /** When quiet hours end for a conversation, in local ms; 0: there are none now. */
  quietUntil(conversation: string): number {
    return this.quiet.get(conversation) ?? 0;
  }

  /** Tells whoever waits for the outbox to have done what it can. */
  private rest(): void {
    const busy = this.connection && !this.pause && this.items.some((i) => i.state === 'sending' || (i.state === 'waiting' && (this.quiet.get(laneOf(i)) ?? 0) <= Date.now()));
    if (busy) return;
    for (const f of this.idle.splice(0)) f();
  }
}

const laneOf = (item: OutboxItem) => (item.params as { conversation?: string }).conversation ?? '';

/** What is stored of an item; a structured clone must not meet a framework's proxy. */
function plain(item: OutboxItem): unknown {
  return JSON.parse(JSON.stringify(item));
}

/** A key that no other request has (PROTOCOL 6.2): 128 random bits. crypto.randomUUID is missing on plain HTTP. */
export function newKey(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (x) => x.toString(16).padStart(2, '0')).join('');
}
