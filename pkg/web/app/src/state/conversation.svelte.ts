/**
 * What one open conversation shows: its timeline with the outbox laid over it,
 * cut into rows, and what follows from looking at it: read marks, names,
 * presence, saving for offline.
 */
import { changedBy, type Entry, type Head, type Item, type Member, type OutboxItem, type Saved, type Timeline } from '@pipit/sdk';
import { SvelteMap } from 'svelte/reactivity';
import { daysAgo } from '../i18n/i18n.svelte';
import { people } from './people.svelte';
import { session } from './session.svelte';

export type Row =
  | { kind: 'day'; key: string; time: number }
  | { kind: 'new'; key: string }
  | { kind: 'note'; key: string; entry: Entry }
  | { kind: 'message'; key: string; item: Item; own: boolean; first: boolean; last: boolean; pending?: OutboxItem };

const runMs = 5 * 60_000; // one author's messages within this are one run
const savedItems = 60;

/** What is kept of a conversation over a restart: its newest page, and how many had read one's newest message. */
type Kept = Saved & { readers?: Readers };
type Readers = { seq: number; count: number };

export class Conversation {
  timeline: Timeline & { close(): void };
  items = $state.raw<readonly Item[]>([]);
  loaded = $state(false);
  live = $state(false);
  atStart = $state(false);
  failed = $state(false);
  loading = $state(false);
  /** Messages above this one are new; it stays until one leaves. */
  newAfter = $state<number | undefined>();
  /** How many have read the newest message of one's own: by seq. */
  readers = $state.raw<Readers | undefined>();
  members = $state.raw<Member[]>([]);
  private closed: Array<() => void> = [];
  private saving: ReturnType<typeof setTimeout> | undefined;
  private marking: ReturnType<typeof setTimeout> | undefined;
  private membersAsked = false;
  private readonly keys = new Map<number, string>(); // of one's own messages, by seq: events don't carry them

  constructor(readonly id: string) {
    const client = session.client!;
    const head = session.heads.get(id);
    this.timeline = client.timeline(id, () => this.update());
    this.greet(head);
    this.met = client.state === 'online';
    this.closed.push(client.on('read', (r) => r.conversation === id && r.user !== client.me && this.countReaders()));
    // Marks that were set while nothing was heard come as no event.
    this.closed.push(client.on('state', (s) => s === 'online' && this.online()));
    if (head?.peer) this.closed.push(people.watch(`conversation:${id}`, [head.peer.id]));
    void this.open(head);
  }

  get head(): Head | undefined {
    return session.heads.get(this.id);
  }

  close(): void {
    this.save();
    clearTimeout(this.saving);
    clearTimeout(this.marking);
    this.timeline.close();
    for (const f of this.closed) f();
  }

  /** Where the new messages begin. */
  private greet(head: Head | undefined): void {
    if (head && (head.unread ?? 0) > 0) this.newAfter ??= head.read ?? 0;
  }

  private met = false;

  private online(): void {
    if (!this.met) this.greet(this.head); // what was kept knows nothing of a night
    this.met = true;
    if (!this.loaded) void this.reload();
    this.countReaders();
  }

  private async open(head: Head | undefined): Promise<void> {
    const kept = await session.client!.store.get<Kept>('pages', this.id).catch(() => undefined);
    if (kept) {
      this.readers ??= kept.readers;
      this.timeline.restore(kept);
    }
    await this.reload(head);
  }

  /** Brings the window up to date: at the first unread message if there are many, else at the newest. */
  async reload(head = this.head): Promise<void> {
    this.failed = false;
    if (!head || session.client?.state === 'offline' || session.client?.state === 'connecting') {
      return; // online() comes back to it
    }
    try {
      if ((head.unread ?? 0) > savedItems && !this.timeline.loaded) {
        await this.timeline.toMessage((head.read ?? 0) + 1);
        if (!this.timeline.loaded) await this.timeline.toNewest();
      } else await this.timeline.catchUp(head.head ?? 0);
    } catch {
      this.failed = !this.timeline.loaded && session.client?.state === 'online';
    }
  }

  private update(): void {
    const t = this.timeline;
    this.items = t.items;
    this.loaded = t.loaded;
    this.live = t.live;
    this.atStart = t.atStart;
    this.saveSoon();
    this.countSoon();
  }

  /** Many entries and many marks are one write. */
  private saveSoon(): void {
    this.saving ??= setTimeout(() => this.save(), 1500);
  }

  private save(): void {
    this.saving = undefined;
    const saved = this.timeline.save(savedItems);
    if (!saved) return;
    const value: Kept = { ...saved, readers: this.readers };
    void session.client?.store.write([{ table: 'pages', key: this.id, value }]).catch(() => {});
  }

  /** Loads a page of older messages; true if the window has grown. Nothing is loaded unless one is online. */
  older(): Promise<boolean> {
    return this.load(() => this.timeline.older());
  }

  newer(): Promise<boolean> {
    return this.load(() => this.timeline.newer());
  }

  private async load(fn: () => Promise<void>): Promise<boolean> {
    if (this.loading || session.state !== 'online') return false;
    this.loading = true;
    const { low, high } = this.timeline;
    await fn().catch(() => {}); // the connection was lost: being online again or scrolling on asks again
    this.loading = false;
    return low !== this.timeline.low || high !== this.timeline.high;
  }

  private readonly fetched = new SvelteMap<number, Entry | undefined>();

  /** A message that another one quotes: from the window, else fetched once. */
  quoted(seq: number): Entry | undefined {
    const at = this.items.findIndex((i) => i.seq === seq);
    if (at >= 0) return this.items[at];
    if (!this.fetched.has(seq) && session.state === 'online') {
      queueMicrotask(() => {
        if (this.fetched.has(seq)) return;
        this.fetched.set(seq, undefined);
        session.client?.history(this.id, { before: seq + 1 }, 1).then(
          (p) => p.entries[0]?.seq === seq && this.fetched.set(seq, p.entries[0]),
          () => this.fetched.delete(seq),
        );
      });
    }
    return this.fetched.get(seq);
  }

  /** One looks at everything up to seq. */
  mark(seq: number): void {
    if (seq <= (this.head?.read ?? 0)) return;
    clearTimeout(this.marking);
    this.marking = setTimeout(() => void session.client?.read(this.id, seq).catch(() => {}), 250);
  }

  private lastTyping = 0;
  typing(): void {
    if (Date.now() - this.lastTyping < 3000 || (this.head?.members ?? 0) > 100) return;
    this.lastTyping = Date.now();
    session.client?.notify('typing', { conversation: this.id });
  }

  /** The members, for mentions and presence; asked for once. */
  async wantMembers(): Promise<void> {
    if (this.membersAsked) return;
    this.membersAsked = true;
    try {
      const r = await session.client!.request('conversation.members', { id: this.id, limit: 500 });
      this.members = r.members;
      people.know(r.members.map((m) => ({ id: m.user, name: m.name, username: m.username, role: '' })));
      this.closed.push(people.watch(`members:${this.id}`, r.members.slice(0, 150).map((m) => m.user)));
    } catch {
      this.membersAsked = false;
    }
  }

  private counting: ReturnType<typeof setTimeout> | undefined;
  private countSoon(): void {
    const mine = this.lastOwn();
    if (mine && mine.seq !== this.readers?.seq) this.countReaders();
  }

  private lastOwn(): Item | undefined {
    for (let i = this.items.length - 1; i >= 0; i--) {
      const m = this.items[i]!;
      if (m.kind === 'message' && m.by === session.user?.id && !m.recalled) return m;
    }
    return undefined;
  }

  /** Asks how many have read one's newest message; directs know it from their head. */
  private countReaders(): void {
    if (this.head?.kind === 'direct' || !this.live) return;
    clearTimeout(this.counting);
    this.counting = setTimeout(async () => {
      const mine = this.lastOwn();
      if (!mine || session.state !== 'online') return;
      try {
        const r = await session.client!.request('read.list', { conversation: this.id, seq: mine.seq, limit: 1 });
        if (this.readers?.seq === mine.seq && this.readers.count === r.counts.read) return;
        this.readers = { seq: mine.seq, count: r.counts.read };
        this.saveSoon();
      } catch {
        // Nobody misses a count.
      }
    }, 400);
  }

  /** The rows to show, oldest first. */
  rows(outbox: readonly OutboxItem[]): Row[] {
    const me = session.user?.id ?? '';
    const mine = outbox.filter((o) => (o.params as { conversation?: string }).conversation === this.id);
    const list = this.overlaid(mine, me);
    const out: Row[] = [];
    let day = '';
    let before: Item | undefined;
    let fresh = this.newAfter;
    for (const [item, pending] of list) {
      const d = new Date(item.time).toDateString();
      if (d !== day) {
        out.push({ kind: 'day', key: `day:${d}:${daysAgo(item.time)}`, time: item.time });
        day = d;
        before = undefined;
      }
      if (fresh !== undefined && !pending && item.seq > fresh && item.kind === 'message' && item.by !== me) {
        out.push({ kind: 'new', key: 'new' });
        fresh = undefined;
        before = undefined;
      }
      if (item.kind !== 'message') {
        out.push({ kind: 'note', key: `n${item.seq}`, entry: item });
        before = undefined;
        continue;
      }
      const first = !before || before.by !== item.by || item.time - before.time > runMs || before.recalled === true || item.recalled === true;
      const prev = out[out.length - 1];
      if (!first && prev?.kind === 'message') prev.last = false;
      // A message keeps its key when it moves from the outbox into the log, so that nothing blinks.
      out.push({ kind: 'message', key: pending?.key ?? this.keys.get(item.seq) ?? item.key ?? `m${item.seq}`, item, own: item.by === me, first, last: true, pending });
      before = item;
    }
    return out;
  }

  /** The items with what is in the outbox applied to them, and the messages that are not in the log yet. */
  private overlaid(mine: OutboxItem[], me: string): Array<[Item, OutboxItem | undefined]> {
    const changes = mine.filter((o) => o.method !== 'message.send' && o.state !== 'failed');
    const newest = this.timeline.high;
    const list: Array<[Item, OutboxItem | undefined]> = this.items.map((item) => {
      for (const o of changes) {
        const p = o.params as { target: number; text?: string; emoji?: string; on?: boolean };
        if (p.target !== item.seq || (o.state === 'sent' && ((o.result as { seq?: number })?.seq ?? 0) <= item.asOf)) continue;
        const kind = { 'message.edit': 'edit', 'message.recall': 'recall', 'message.react': 'reaction', 'message.pin': 'pin' }[o.method as string];
        item = changedBy(item, { ...p, kind, conversation: this.id, seq: 0, time: o.created, by: me } as Entry, me);
      }
      return [item, undefined];
    });
    if (!this.live && this.loaded) return list;
    const keys = new Set(this.items.map((i) => i.key).filter(Boolean));
    for (const o of mine) {
      if (o.method !== 'message.send' || keys.has(o.key)) continue;
      const r = o.result as { seq: number; time: number } | undefined;
      if (r) this.keys.set(r.seq, o.key);
      if (r && r.seq <= newest) continue;
      const p = o.params as { text: string; reply_to?: number; mentions?: string[] };
      const lastTime = list[list.length - 1]?.[0].time ?? 0;
      list.push([{ conversation: this.id, seq: r?.seq ?? 0, time: r?.time ?? Math.max(o.created, lastTime), by: me, kind: 'message', ...p, asOf: 0 }, o]);
    }
    return list;
  }
}
