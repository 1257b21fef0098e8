/**
 * A client of one user on one server: connects, says hello, keeps the list of
 * conversations, sends the outbox, repairs holes and comes back as the close
 * codes say (PROTOCOL 3). What it shows of a conversation is a Timeline.
 */
import { Connection, type SocketFactory } from './connection.js';
import { Emitter } from './emitter.js';
import { Outbox, type OutboxItem } from './outbox.js';
import type { Entry, Events, Head, Hello, KeyedMethod, Methods, Notification, Page, Seq } from './protocol.gen.js';
import { MemoryStore, type Change, type Store } from './store.js';
import { Timeline, changedBy } from './timeline.js';
import { closeAction, ConnectionLost, PipitError } from './wire.js';

/**
 * `offline`: it will try again by itself, at `retryAt`. `signed-out`: the token
 * is of no use any more. `stopped`: the server said not to come back (`code`).
 */
export type State = 'idle' | 'connecting' | 'catching-up' | 'online' | 'offline' | 'signed-out' | 'stopped';

export interface Options {
  /** Such as https://chat.school.example; http and ws work too. */
  url: string;
  /** From POST /v1/sessions. A browser that has the sign-in cookie leaves it out. */
  token?: string;
  /** Name and version of the program, for the server's operator. */
  client?: string;
  store?: Store;
  /** Pull every hole of every conversation and emit its entries in order: for bots. Without it only timelines pull. */
  followAll?: boolean;
  WebSocket?: SocketFactory;
  /** A number in [0, 1); tests replace it. */
  random?: () => number;
}

export interface ClientEvents {
  state: [state: State];
  /** The conversations that changed; undefined: all. */
  conversations: [ids: string[] | undefined];
  entry: [entry: Entry];
  read: [Events['read']];
  typing: [Events['typing']];
  presence: [Events['presence']];
  outbox: [item: OutboxItem | undefined];
  hello: [hello: Hello];
  /** The store was restored from a backup: forget what you hold. */
  reset: [];
}

const probeAfterMs = 5_000; // silence after which a wake-up asks whether the connection lives
const probeMs = 1_000;
const wakeMs = 200; // the attempt after a wake-up comes within this
const pingMs = 10_000;
const attemptMs = 15_000;

export class Client extends Emitter<ClientEvents> {
  readonly store: Store;
  readonly outbox: Outbox;
  readonly conversations = new Map<string, Head>();
  state: State = 'idle';
  hello: Hello | undefined;
  /** Local time in ms of the next attempt while offline. */
  retryAt = 0;
  /** Why it was stopped or signed out. */
  code = 0;
  /** Connections that were begun; tests count storms with it. */
  attempts = 0;
  private connection: Connection | undefined;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private watchdog: ReturnType<typeof setInterval> | undefined;
  private failures = 0;
  private attemptedAt = 0;
  private woken = false; // during the present attempt
  private wanted = false;
  private epoch = '';
  private sync = '';
  private ready: Promise<void> | undefined;
  private readonly timelines = new Map<string, Set<Timeline>>();
  private readonly seen = new Map<string, number>(); // newest seq that came as an event
  private readonly positions = new Map<string, number>(); // followAll: delivered up to here
  private readonly pulls = new Map<string, Promise<void>>();
  private readonly dirty = new Set<string>();
  private readonly stale = new Map<string, ReturnType<typeof setTimeout>>();
  private saving: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly options: Options) {
    super();
    this.store = options.store ?? new MemoryStore();
    this.outbox = new Outbox(this.store, (item) => this.emit('outbox', item));
  }

  get me(): string {
    return this.hello?.user.id ?? '';
  }

  /** Brings back what the store has, without a connection: what was seen can be shown at once. */
  load(): Promise<void> {
    return (this.ready ??= (async () => {
      this.epoch = (await this.store.get<string>('state', 'epoch')) ?? '';
      this.sync = (await this.store.get<string>('state', 'sync')) ?? '';
      this.hello = await this.store.get<Hello>('state', 'hello');
      for (const [id, head] of await this.store.all<Head & { position?: number }>('heads')) {
        if (head.position !== undefined) this.positions.set(id, head.position);
        this.conversations.set(id, head);
      }
      await this.outbox.load();
      this.emit('conversations', undefined);
    })());
  }

  /** Begins, and keeps coming back until stop. */
  async start(): Promise<void> {
    await this.load();
    if (this.wanted) return;
    this.wanted = true;
    this.watchdog = setInterval(() => this.watch(), 5_000);
    (this.watchdog as { unref?(): void }).unref?.();
    this.connect();
  }

  /** Ends the connection and does not come back. */
  async stop(): Promise<void> {
    this.wanted = false;
    clearTimeout(this.timer);
    clearInterval(this.watchdog);
    this.set('idle');
    this.connection?.drop(1000);
    await this.flush();
  }

  /**
   * The page became visible, or the machine woke up, or the network came back:
   * if the connection may be dead, finds out within a second, and if there is
   * none, tries at once instead of when the back-off says.
   */
  wake(): void {
    if (!this.wanted || this.state === 'signed-out' || this.state === 'stopped') return;
    if (this.state === 'connecting') {
      // An attempt from before the network came back may fail yet, or hang: the next one is not to wait for the back-off.
      this.woken = true;
      if (performance.now() - this.attemptedAt > probeMs) this.connection?.drop();
    } else if (this.state === 'offline') {
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.connect(), this.random() * wakeMs);
    } else if (this.connection && performance.now() - this.connection.heard > probeAfterMs) this.probe(probeMs);
  }

  /**
   * The system says that the network went away: finds out within a second
   * whether it is so. A box on the same wire may still be there without it.
   */
  doubt(): void {
    if (this.state === 'online' || this.state === 'catching-up') this.probe(probeMs);
  }

  /** A request that changes nothing, or may be lost: rejects with ConnectionLost while offline. */
  request<M extends keyof Methods>(method: M, params: Methods[M]['params']): Promise<Methods[M]['result']> {
    if (!this.connection || (this.state !== 'online' && this.state !== 'catching-up')) return Promise.reject(new ConnectionLost('not connected'));
    return this.connection.request(method, params);
  }

  notify<N extends Notification>(method: N, params: Methods[N]['params']): void {
    if (this.state === 'online') this.connection?.notify(method, params);
  }

  /** Puts a request into the outbox; see Outbox.add. */
  enqueue<M extends KeyedMethod>(method: M, params: Omit<Methods[M]['params'], 'key'>): Promise<{ item: OutboxItem<M>; done: Promise<Methods[M]['result']> }> {
    return this.outbox.add(method, params);
  }

  /** Sends a text and resolves once it is on the server's stable storage. */
  async send(conversation: string, text: string, more: { reply_to?: number; mentions?: string[] } = {}): Promise<Seq> {
    return (await this.outbox.add('message.send', { conversation, text, ...more })).done;
  }

  history(conversation: string, range: { after?: number; before?: number }, limit: number): Promise<Page> {
    return this.request('message.history', { conversation, ...range, limit });
  }

  /** A window on a conversation that this client keeps current until `close`. */
  timeline(conversation: string, changed?: () => void): Timeline & { close(): void } {
    const t = new Timeline(this, conversation, this.conversations.get(conversation)?.head ?? 0, changed) as Timeline & { close(): void };
    let set = this.timelines.get(conversation);
    if (!set) this.timelines.set(conversation, (set = new Set()));
    set.add(t);
    t.close = () => set.delete(t);
    return t;
  }

  /** Writes what is held back now and then: before the page goes away. */
  async flush(): Promise<void> {
    clearTimeout(this.saving);
    this.saving = undefined;
    const changes: Change[] = [];
    for (const id of this.dirty) {
      const head = this.conversations.get(id);
      const value = head && (this.options.followAll ? { ...head, position: this.positions.get(id) } : head);
      changes.push({ table: 'heads', key: id, value });
    }
    this.dirty.clear();
    await this.store.write(changes).catch(() => {}); // a full disk of the phone: the server has it all
  }

  // Connecting.

  private connect(): void {
    clearTimeout(this.timer);
    if (!this.wanted || this.connection) return;
    this.attempts++;
    this.attemptedAt = performance.now();
    this.woken = false;
    this.set('connecting');
    const url = this.options.url.replace(/^http/, 'ws').replace(/\/$/, '') + '/v1/ws';
    const factory = this.options.WebSocket ?? (globalThis as { WebSocket?: SocketFactory }).WebSocket;
    if (!factory) throw new Error('there is no WebSocket here: pass one, such as that of the package ws');
    const c: Connection = new Connection(factory, url, {
      opened: () => void this.greet(c),
      event: (name, params) => this.event(name, params as never),
      closed: (code, reason) => this.closed(c, code, reason),
    });
    this.connection = c;
    this.timer = setTimeout(() => {
      if (this.state === 'connecting') c.drop();
    }, attemptMs);
  }

  private async greet(c: Connection): Promise<void> {
    try {
      const { token, client } = this.options;
      const hello = await c.request('session.hello', {
        ...(token ? { token } : {}),
        client: client ?? 'pipit-sdk/0.1.0',
        ...(this.epoch ? { epoch: this.epoch } : {}),
        ...(this.sync ? { sync: this.sync } : {}),
      });
      clearTimeout(this.timer);
      if (this.epoch && hello.epoch !== this.epoch) await this.forget();
      this.epoch = hello.epoch;
      this.hello = { ...hello, conversations: [] };
      this.emit('hello', this.hello);
      this.set('catching-up');
      // PROTOCOL 3.6: the outbox goes before the pulls.
      const sent = this.outbox.attach(c);
      await this.list(c, hello);
      await sent;
      if (this.connection !== c) return;
      this.failures = 0;
      this.set('online');
      await this.resume();
    } catch (e) {
      if (e instanceof ConnectionLost || this.connection !== c) return;
      // A refusal of the token is followed by its close code; anything else is the server's fault.
      if (!(e instanceof PipitError && e.kind === 'unauthenticated')) c.drop(1011);
    }
  }

  /** Takes the pages of the list; only the last one's sync counts (PROTOCOL 3.3). */
  private async list(c: Connection, hello: Hello): Promise<void> {
    const named = new Set<string>();
    let page: { conversations: Head[]; next?: string; sync?: string; full?: boolean } = hello;
    for (;;) {
      for (const h of page.conversations) {
        named.add(h.id);
        this.take(h);
      }
      this.emit('conversations', page.conversations.map((h) => h.id));
      if (!page.next) break;
      page = await c.request('conversation.list', { cursor: page.next, limit: 200 });
    }
    if (page.full) {
      for (const id of [...this.conversations.keys()]) if (!named.has(id)) this.drop(id);
      this.emit('conversations', undefined);
    }
    this.sync = page.sync ?? '';
    await this.flush();
    await this.store
      .write([
        { table: 'state', key: 'epoch', value: this.epoch },
        { table: 'state', key: 'sync', value: this.sync },
        { table: 'state', key: 'hello', value: this.hello },
      ])
      .catch(() => {});
  }

  /** Pulls the holes: of every timeline that is open, and with followAll of every conversation. */
  private async resume(): Promise<void> {
    const pulls: Promise<void>[] = [];
    for (const [id, set] of this.timelines) {
      const head = this.conversations.get(id)?.head ?? 0;
      for (const t of set) pulls.push(t.catchUp(head));
    }
    if (this.options.followAll) for (const [id, h] of this.conversations) pulls.push(this.follow(id, h.head ?? 0));
    await Promise.allSettled(pulls);
    this.outbox.shown(); // the events of what was confirmed before went by; the pulls brought it
  }

  private closed(c: Connection, code: number, reason: string): void {
    if (this.connection !== c) return;
    this.connection = undefined;
    clearTimeout(this.timer);
    this.outbox.detach();
    void this.flush();
    if (!this.wanted) return;
    const action = closeAction(code, reason);
    this.code = code;
    if (action.do === 'sign-in') return this.set('signed-out');
    if (action.do === 'stop') return this.set('stopped');
    let max = action.do === 'reconnect' ? action.maxDelayMs : Math.min(30_000, 500 * 2 ** this.failures++);
    if (this.woken && action.do === 'backoff') max = wakeMs;
    const delay = this.random() * max;
    this.retryAt = Date.now() + delay;
    this.set('offline');
    this.timer = setTimeout(() => this.connect(), delay);
  }

  /** Looks whether the connection lives: a browser can't see the server's pings (PROTOCOL 3.8). */
  private watch(): void {
    if (this.connection && this.state === 'online' && performance.now() - this.connection.heard > (this.hello?.heartbeat_ms ?? 30_000)) this.probe(pingMs);
  }

  private probing = false;

  private probe(ms: number): void {
    const c = this.connection;
    if (!c || this.probing) return;
    this.probing = true;
    const timer = setTimeout(() => {
      this.probing = false;
      if (this.connection !== c) return;
      this.failures = 0;
      c.drop();
      this.wake();
    }, ms);
    c.request('session.ping', {}).then(
      () => this.probed(timer),
      () => this.probed(timer),
    );
  }

  private probed(timer: ReturnType<typeof setTimeout>): void {
    clearTimeout(timer);
    this.probing = false;
  }

  // Events.

  private event<E extends keyof Events>(name: E, params: Events[E]): void {
    switch (name) {
      case 'entry':
        return this.entry(params as Entry);
      case 'conversation.changed': {
        const h = params as Head;
        this.take(h);
        return this.emit('conversations', [h.id]);
      }
      case 'read': {
        const r = params as Events['read'];
        const h = this.conversations.get(r.conversation);
        if (h && r.user === this.me) this.marked(h, r.seq);
        else if (h?.peer?.id === r.user) this.change({ ...h, peer_read: Math.max(h.peer_read ?? 0, r.seq) });
        return this.emit('read', r);
      }
      case 'typing':
        return this.emit('typing', params as Events['typing']);
      case 'presence':
        return this.emit('presence', params as Events['presence']);
    }
  }

  private entry(e: Entry): void {
    this.seen.set(e.conversation, Math.max(this.seen.get(e.conversation) ?? 0, e.seq));
    const h = this.conversations.get(e.conversation);
    if (h && e.seq > (h.head ?? 0)) this.change(this.after(h, e));
    for (const t of this.timelines.get(e.conversation) ?? []) t.entry(e);
    if (e.by === this.me) this.outbox.seen(e.conversation, e.seq);
    if (this.options.followAll) this.follow(e.conversation, e.seq, e).catch(() => {}); // the next hello pulls
    else this.emit('entry', e);
  }

  /** What the list shows of a conversation after one more entry. */
  private after(h: Head, e: Entry): Head {
    const now: Head = { ...h, head: e.seq, updated: e.time };
    const { read = 0, unread = 0, mentions = 0, members = 0, last } = h;
    switch (e.kind) {
      case 'message':
        now.last = e;
        if (e.by !== this.me) {
          now.unread = unread + 1;
          if (e.mentions?.includes(this.me)) now.mentions = mentions + 1;
        }
        break;
      case 'member':
        if (e.change === 'joined') now.members = members + 1;
        if (e.change === 'left') now.members = members - 1;
        if (e.user === this.me && e.role) now.role = e.role;
        break;
      case 'meta':
        if (e.title !== undefined) now.title = e.title;
        if (e.archived !== undefined) now.archived = e.archived;
        break;
      case 'edit':
      case 'recall':
        if (last && e.target === last.seq) now.last = changedBy(last, e, this.me);
        // Whether the message counted as unread is known to the server alone.
        if (e.kind === 'recall' && (e.target ?? 0) > read) this.ask(h.id);
    }
    return now;
  }

  /** Takes a HEAD: what came meanwhile as events is not undone by an older snapshot. */
  private take(h: Head): void {
    if (h.left) return this.drop(h.id);
    const old = this.conversations.get(h.id);
    const seen = this.seen.get(h.id) ?? 0;
    if (old && (old.head ?? 0) > (h.head ?? 0) && seen > (h.head ?? 0)) h = { ...old, role: h.role, title: h.title, members: h.members };
    else if (seen > (h.head ?? 0)) h = { ...h, head: seen };
    if (this.options.followAll && !this.positions.has(h.id)) this.positions.set(h.id, h.head ?? 0);
    this.change(h, false);
  }

  private change(h: Head, tell = true): void {
    this.conversations.set(h.id, h);
    this.dirty.add(h.id);
    this.saving ??= setTimeout(() => void this.flush(), 1000);
    if (tell) this.emit('conversations', [h.id]);
  }

  private drop(id: string): void {
    this.conversations.delete(id);
    this.seen.delete(id);
    this.positions.delete(id);
    this.dirty.add(id);
    void this.store.write([{ table: 'pages', key: id }]).catch(() => {});
  }

  private marked(h: Head, seq: number): void {
    if (seq <= (h.read ?? 0)) return;
    if (seq >= (h.head ?? 0)) return this.change({ ...h, read: seq, unread: 0, mentions: 0 });
    this.change({ ...h, read: seq });
    this.ask(h.id);
  }

  /** Marks as read, here at once and on the server. */
  async read(conversation: string, seq: number): Promise<void> {
    const h = this.conversations.get(conversation);
    if (!h || seq <= (h.read ?? 0)) return;
    await this.request('read.mark', { conversation, seq });
    const now = this.conversations.get(conversation);
    if (now) this.marked(now, seq);
  }

  /** Asks for a HEAD again, soon and once. */
  private ask(id: string): void {
    if (this.stale.has(id)) return;
    this.stale.set(
      id,
      setTimeout(() => {
        this.stale.delete(id);
        this.request('conversation.get', { id }).then(
          (h) => {
            this.take(h);
            this.emit('conversations', [id]);
          },
          () => {}, // the next hello brings it
        );
      }, 300),
    );
  }

  /** followAll: emits the entries of a conversation in order up to `head`, pulling what is missing. */
  private follow(id: string, head: number, e?: Entry): Promise<void> {
    const at = this.positions.get(id) ?? head;
    if (e && e.seq === at + 1 && !this.pulls.has(id)) {
      this.deliver(e);
      return Promise.resolve();
    }
    if (head <= at) return Promise.resolve();
    let pull = this.pulls.get(id);
    if (!pull) {
      pull = this.fill(id).finally(() => this.pulls.delete(id));
      this.pulls.set(id, pull);
    }
    return pull;
  }

  private async fill(id: string): Promise<void> {
    for (;;) {
      const after = this.positions.get(id) ?? 0;
      if (after >= Math.max(this.conversations.get(id)?.head ?? 0, this.seen.get(id) ?? 0)) return;
      const page = await this.history(id, { after }, 200);
      if (page.entries.length === 0) return;
      for (const e of page.entries) this.deliver(e);
    }
  }

  private deliver(e: Entry): void {
    if (e.seq <= (this.positions.get(e.conversation) ?? 0)) return;
    this.positions.set(e.conversation, e.seq);
    this.dirty.add(e.conversation);
    this.saving ??= setTimeout(() => void this.flush(), 1000);
    this.emit('entry', e);
  }

  /** PROTOCOL 3.7: another epoch; the cache goes, the outbox stays. */
  private async forget(): Promise<void> {
    this.conversations.clear();
    this.seen.clear();
    this.positions.clear();
    this.sync = '';
    await this.store.clear('heads', 'pages').catch(() => {});
    for (const [, set] of this.timelines) for (const t of set) void t.reset(0).catch(() => {});
    this.emit('reset');
  }

  private set(s: State): void {
    if (this.state === s) return;
    this.state = s;
    this.emit('state', s);
  }

  private random(): number {
    return (this.options.random ?? Math.random)();
  }
}
