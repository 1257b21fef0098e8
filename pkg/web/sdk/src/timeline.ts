/**
 * A window on one conversation's log: a run of entries without a hole, from
 * `low` to `high`, with the state of each message as of some entry (PROTOCOL
 * 5.3, 6.5). It grows at both ends on demand, is bounded, follows the newest
 * entries while it reaches them (`live`), and repairs holes by pulling.
 */
import type { Entry, Page } from './protocol.gen.js';

/** What a timeline shows: messages, and who came, went or renamed. Changes of messages are applied to them. */
export interface Item extends Entry {
  /** The newest entry whose effect is in this state; only later ones are applied. */
  asOf: number;
}

/** What a timeline needs of a client. */
export interface Source {
  readonly me: string;
  history(conversation: string, range: { after?: number; before?: number }, limit: number): Promise<Page>;
}

/** What is kept of a window over a restart. */
export interface Saved {
  low: number;
  high: number;
  items: Item[];
}

const pageSize = 60;
const maxPull = 400; // a longer hole is not pulled: the newest page is
const maxItems = 360;

const shown = (e: Entry) => e.kind === 'message' || e.kind === 'member' || e.kind === 'meta';

export class Timeline {
  /** Rising by seq. Replaced, never changed in place, so that a view can compare. */
  items: readonly Item[] = [];
  /** The first and the last entry of the window; none: low 1, high 0. */
  low = 1;
  high = 0;
  /** The newest seq of the log, as far as is known. */
  head: number;
  /** True once a page has come, or a saved window was put in. */
  loaded = false;
  /** Every entry up to this one is in the states of the items: events are applied one after the other from here. */
  private through = 0;
  private busy: Promise<void> | undefined;
  private queued: Entry[] = []; // events that came while the window was being changed
  private generation = 0;

  constructor(
    private readonly source: Source,
    readonly conversation: string,
    head: number,
    private readonly changed: () => void = () => {},
  ) {
    this.head = head;
  }

  /** True if the window reaches the newest entry. */
  get live(): boolean {
    return this.high >= this.head;
  }

  get atStart(): boolean {
    return this.loaded && this.low <= 1;
  }

  /** Shows what was saved; catchUp brings it up to date. */
  restore(saved: Saved): void {
    if (this.loaded || saved.high === 0) return;
    this.items = saved.items;
    this.low = saved.low;
    this.high = saved.high;
    this.through = saved.high;
    this.loaded = true;
    this.changed();
  }

  /** The newest part of the window, to be saved; undefined if it does not reach the newest entry. */
  save(count: number): Saved | undefined {
    if (!this.loaded || !this.live || this.high === 0) return undefined;
    const items = this.items.slice(-count);
    const low = items.length < this.items.length ? items[0]!.seq : this.low;
    return { low, high: this.high, items: items as Item[] };
  }

  /** Goes to the newest page. */
  toNewest(): Promise<void> {
    return this.alone(async (current) => {
      const page = await this.pull({}, pageSize);
      if (current()) this.replace(page);
    });
  }

  /**
   * Goes to a message, with some around it; true if it is there. What is before
   * and after it comes in one change: a view that showed one half first would
   * have to move it for the other.
   */
  async toMessage(seq: number): Promise<boolean> {
    if (this.find(seq) < 0) {
      await this.alone(async (current) => {
        if (this.find(seq) >= 0) return; // what was under way has brought it
        const [before, after] = await Promise.all([this.pull({ before: seq + 1 }, pageSize / 2), this.pull({ after: seq }, pageSize / 2)]);
        if (!current()) return;
        this.put(before);
        this.append(after);
        this.trim('older');
      });
    }
    return this.find(seq) >= 0;
  }

  /** Loads a page of older entries. */
  older(): Promise<void> {
    if (!this.loaded || this.low <= 1) return Promise.resolve();
    return this.alone(async (current) => {
      const page = await this.pull({ before: this.low }, pageSize);
      if (!current()) return;
      this.items = [...this.take(page), ...this.items];
      this.low = page.entries[0]?.seq ?? 1;
      this.trim('newer');
    });
  }

  /** Loads a page of newer entries, where the window does not reach the newest. */
  newer(): Promise<void> {
    if (!this.loaded || this.live) return Promise.resolve();
    return this.alone(async (current) => {
      const page = await this.pull({ after: this.high }, pageSize);
      if (current()) this.append(page);
      this.trim('older');
    });
  }

  /** The log has grown to `head` while nothing was heard: pulls the hole, or the newest page if that is shorter. */
  async catchUp(head: number): Promise<void> {
    // Who is going somewhere for the first time is not taken to the newest instead.
    while (!this.loaded && this.busy) await this.busy.catch(() => {});
    const wasLive = this.live;
    this.head = Math.max(this.head, head);
    if (!this.loaded) return this.toNewest();
    if (!wasLive) return this.head > this.through ? this.refresh() : undefined;
    if (this.live) return;
    if (this.head - this.high > maxPull) return this.toNewest();
    await this.alone(async (current) => {
      while (current() && !this.live) {
        const page = await this.pull({ after: this.high }, 200);
        if (!current() || page.entries.length === 0) return;
        this.append(page);
      }
      this.trim('older');
    });
  }

  /** The store was restored from a backup: nothing that was seen counts. */
  reset(head: number): Promise<void> {
    this.generation++;
    this.busy = undefined;
    this.loaded = false;
    this.items = [];
    this.low = 1;
    this.high = 0;
    this.through = 0;
    this.queued = [];
    this.head = head;
    this.changed();
    return this.toNewest();
  }

  /** An entry came as an event. */
  entry(e: Entry): void {
    if (this.busy) {
      this.queued.push(e);
      return;
    }
    const wasLive = this.live;
    this.head = Math.max(this.head, e.seq);
    if (!this.loaded || e.seq <= this.through) return;
    if (e.seq > this.through + 1) {
      // A hole. It is pulled; a lost connection meanwhile means a hello that catches up.
      void (wasLive ? this.catchUp(e.seq) : this.refresh()).catch(() => {});
      return;
    }
    this.through = e.seq;
    this.apply(e);
    if (!wasLive) return;
    this.high = e.seq;
    if (shown(e)) this.items = [...this.items, { ...e, asOf: e.seq }];
    if (this.items.length > maxItems * 2) this.trim('older');
    this.changed();
  }

  find(seq: number): number {
    let lo = 0;
    let hi = this.items.length - 1;
    while (lo <= hi) {
      const mid = (lo + hi) >> 1;
      const at = this.items[mid]!.seq;
      if (at === seq) return mid;
      if (at < seq) lo = mid + 1;
      else hi = mid - 1;
    }
    return -1;
  }

  /** Reads the window again where it is: what changed in it while nothing was heard is unknown. */
  private refresh(): Promise<void> {
    return this.alone(async (current) => {
      const until = this.high;
      let after = this.low - 1;
      let items: Item[] = [];
      let seen = Infinity;
      while (after < until) {
        const page = await this.pull({ after }, 200);
        if (!current()) return;
        if (page.entries.length === 0) break;
        items = [...items, ...this.take(page)];
        seen = Math.min(seen, page.head);
        after = page.entries[page.entries.length - 1]!.seq;
      }
      this.items = items;
      this.high = Math.max(after, until);
      if (seen !== Infinity) this.through = Math.max(this.high, seen);
      this.changed();
    });
  }

  private async pull(range: { after?: number; before?: number }, limit: number): Promise<Page> {
    const page = await this.source.history(this.conversation, range, limit);
    this.head = Math.max(this.head, page.head);
    return page;
  }

  private replace(page: Page): void {
    this.put(page);
    this.trim('older');
  }

  private put(page: Page): void {
    const n = page.entries.length;
    this.items = this.take(page);
    this.low = n > 0 ? page.entries[0]!.seq : 1;
    this.high = n > 0 ? page.entries[n - 1]!.seq : 0;
    this.through = Math.max(this.high, page.head);
    this.loaded = true;
  }

  private append(page: Page): void {
    for (const e of page.entries) {
      if (e.seq <= this.high) continue;
      this.apply(e);
      this.high = e.seq;
    }
    this.through = Math.max(this.through, this.high);
    const last = this.items[this.items.length - 1]?.seq ?? 0;
    this.items = [...this.items, ...this.take(page).filter((i) => i.seq > last)];
  }

  private take(page: Page): Item[] {
    return page.entries.filter(shown).map((e) => ({ ...e, asOf: page.head }));
  }

  /** Applies an edit, recall, reaction or pin to its message, if that is in the window and older than the change. */
  private apply(e: Entry): void {
    if (e.target === undefined) return;
    const at = this.find(e.target);
    if (at < 0 || this.items[at]!.asOf >= e.seq) return;
    const old = this.items[at]!;
    const now = changedBy(old, e, this.source.me);
    const items = this.items.slice();
    items[at] = { ...now, asOf: e.seq };
    this.items = items;
    this.changed();
  }

  private trim(side: 'older' | 'newer'): void {
    if (this.items.length > maxItems) {
      if (side === 'older') {
        this.items = this.items.slice(-maxItems);
        this.low = this.items[0]!.seq;
      } else {
        this.items = this.items.slice(0, maxItems);
        this.high = this.items[maxItems - 1]!.seq;
      }
    }
    this.changed();
  }

  /** One change of the window at a time; `current` is false after a reset. */
  private async alone(fn: (current: () => boolean) => Promise<void>): Promise<void> {
    while (this.busy) await this.busy.catch(() => {});
    const generation = this.generation;
    const run = fn(() => this.generation === generation);
    this.busy = run;
    try {
      await run;
    } finally {
      if (this.busy === run) {
        this.busy = undefined;
        for (const e of this.queued.splice(0)) this.entry(e);
      }
    }
  }
}

/** A message after one change (PROTOCOL 5.1, 6.4). */
export function changedBy<T extends Entry>(m: T, e: Entry, me: string): T {
  switch (e.kind) {
    case 'edit':
      return m.recalled || e.text === undefined ? m : { ...m, text: e.text, edited: e.time };
    case 'recall': {
      const { text: _, edited: __, pinned: ___, ...rest } = m;
      return { ...rest, recalled: true } as T;
    }
    case 'pin':
      return { ...m, pinned: e.on || undefined };
    case 'reaction': {
      const list = (m.reactions ?? []).map((r) => ({ ...r }));
      let r = list.find((r) => r.emoji === e.emoji);
      if (!r) list.push((r = { emoji: e.emoji ?? '', count: 0 }));
      r.count += e.on ? 1 : -1;
      if (e.by === me) r.mine = e.on || undefined;
      return { ...m, reactions: list.filter((r) => r.count > 0) };
    }
  }
  return m;
}
