import type { Entry, Head, Socket } from '../src/index.js';

/**
 * A server of one user in memory, as far as these tests go: it keeps logs,
 * remembers keys, and can lose a reply or a connection when told to. What the
 * real server does is tested against the real server (pipitd.test.ts).
 */
export class FakeServer {
  epoch = 'e_1';
  logs = new Map<string, Entry[]>([['c_1', []]]);
  keys = new Map<string, { seq: number; time: number }>();
  sockets = new Set<FakeSocket>();
  seen: Array<{ method: string; params: any }> = [];
  /** Answers this instead of doing what was asked. */
  refuse: ((method: string, params: any) => object | undefined) | undefined;
  /** The connection breaks after the request was carried out, before the reply. */
  loseReplies = 0;
  deaf = false;
  /** How many others have read everything. */
  readers = 0;
  /** Connections that nobody answers or refuses. */
  hung: FakeSocket[] | undefined;

  readonly factory = (() => {
    const server = this;
    return class extends FakeSocket {
      constructor() {
        super(server);
      }
    } as unknown as new (url: string, protocol: string) => Socket;
  })();

  append(conversation: string, e: Partial<Entry>): Entry {
    const log = this.logs.get(conversation)!;
    const entry = { conversation, seq: log.length + 1, time: 1000 + log.length, by: 'u_2', kind: 'message', ...e } as Entry;
    log.push(entry);
    return entry;
  }

  tell(entry: Entry): void {
    for (const s of this.sockets) s.push({ jsonrpc: '2.0', method: 'entry', params: entry });
  }

  head(id: string): Head {
    return { id, kind: 'group', title: id, head: this.logs.get(id)!.length, read: 0, unread: 0, mentions: 0, role: 'member', members: 2, updated: 1 };
  }

  handle(s: FakeSocket, text: string): void {
    const { id, method, params = {} } = JSON.parse(text);
    this.seen.push({ method, params });
    const refused = this.refuse?.(method, params);
    if (refused) return s.push({ jsonrpc: '2.0', id, error: refused });
    const reply = (result: object) => s.push({ jsonrpc: '2.0', id, result });
    switch (method) {
      case 'session.hello':
        return reply({
          session: 's_1', user: { id: 'u_1', username: 'ann', name: 'Ann', role: 'member' }, tenant: { id: 't', name: 'T' }, epoch: this.epoch, sync: 'y', time: 1,
          heartbeat_ms: 30000, limits: { frame_bytes: 65536, text_bytes: 16384, sends_per_minute: 120 }, conversations: [...this.logs.keys()].map((c) => this.head(c)), full: true,
        });
      case 'session.ping':
        return reply({ time: 1 });
      case 'conversation.get':
        return reply(this.head(params.id));
      case 'read.list':
        return reply({ read: [], unread: [], counts: { read: this.readers, unread: 0 } });
      case 'message.history': {
        const log = this.logs.get(params.conversation)!;
        const limit = Math.min(params.limit, 200);
        let page = log.filter((e) => (params.after === undefined || e.seq > params.after) && (params.before === undefined || e.seq < params.before));
        page = params.after !== undefined ? page.slice(0, limit) : page.slice(-limit);
        return reply({ entries: page, head: log.length });
      }
      case 'message.send': {
        const known = this.keys.get(params.key);
        if (known && this.loseReplies-- > 0) return s.break(1006);
        if (known) return reply({ ...known, repeat: true });
        const e = this.append(params.conversation, { by: 'u_1', text: params.text });
        this.keys.set(params.key, { seq: e.seq, time: e.time });
        if (this.loseReplies > 0) {
          this.loseReplies--;
          return s.break(1006);
        }
        reply({ seq: e.seq, time: e.time });
        return this.tell(e);
      }
    }
    reply({});
  }
}

class FakeSocket implements Socket {
  onopen: ((e: any) => void) | null = null;
  onmessage: ((e: any) => void) | null = null;
  onclose: ((e: any) => void) | null = null;
  onerror: ((e: any) => void) | null = null;
  private open = true;

  constructor(private readonly server: FakeServer) {
    queueMicrotask(() => {
      if (server.deaf) return this.break(1006);
      if (server.hung) return void server.hung.push(this);
      server.sockets.add(this);
      this.onopen?.({});
    });
  }
  send(text: string): void {
    if (this.open) queueMicrotask(() => this.open && !this.server.deaf && this.server.handle(this, text));
  }
  push(m: object): void {
    if (this.open) this.onmessage?.({ data: JSON.stringify(m) });
  }
  break(code: number, reason = ''): void {
    if (!this.open) return;
    this.open = false;
    this.server.sockets.delete(this);
    this.onclose?.({ code, reason });
  }
  close(): void {
    this.break(1000);
  }
}
