/** Names and presence of people, fetched together and kept for offline. */
import type { Client, PresenceRow, PresenceState, User } from '@pipit/sdk';
import { SvelteMap } from 'svelte/reactivity';

const maxWatched = 200; // PROTOCOL 8.2
const maxAsked = 200;

class People {
  private readonly users = new SvelteMap<string, User>();
  readonly presence = new SvelteMap<string, PresenceState>();
  private client: Client | undefined;
  private readonly wanted = new Set<string>();
  private readonly asked = new Set<string>();
  private timer: ReturnType<typeof setTimeout> | undefined;
  private readonly watchers = new Map<string, readonly string[]>();
  private watchTimer: ReturnType<typeof setTimeout> | undefined;

  attach(client: Client): void {
    this.client = client;
    this.users.clear();
    this.presence.clear();
    this.asked.clear();
    void client.store.all<User>('people').then((rows) => {
      for (const [id, u] of rows) if (!this.users.has(id)) this.users.set(id, u);
    });
  }

  /** The connection is back: ask for who is missing, watch again. */
  online(): void {
    this.asked.clear();
    this.ask();
    this.watchSoon();
  }

  get(id: string): User | undefined {
    return this.users.get(id);
  }

  /** The name to show; asks for it if it is not known, and reserves its room meanwhile. */
  name(id: string): string {
    const u = this.users.get(id);
    if (!u) this.want([id]);
    return u?.name || u?.username || '…';
  }

  know(list: User[]): void {
    for (const u of list) {
      const old = this.users.get(u.id);
      if (old && old.name === u.name && (old.role === u.role || !u.role)) continue;
      this.users.set(u.id, { ...u, role: u.role || old?.role || '' });
    }
    void this.client?.store.write(list.map((u) => ({ table: 'people' as const, key: u.id, value: { ...u } }))).catch(() => {});
  }

  want(ids: readonly string[]): void {
    for (const id of ids) if (id && !this.users.has(id) && !this.asked.has(id)) this.wanted.add(id);
    if (this.wanted.size > 0) this.timer ??= setTimeout(() => this.ask(), 30);
  }

  private ask(): void {
    this.timer = undefined;
    const ids = [...this.wanted].slice(0, maxAsked);
    if (ids.length === 0 || !this.client) return;
    for (const id of ids) {
      this.wanted.delete(id);
      this.asked.add(id);
    }
    this.client.request('user.get', { users: ids }).then(
      (r) => this.know(r.users),
      () => {
        for (const id of ids) {
          this.asked.delete(id);
          this.wanted.add(id); // online() asks again
        }
      },
    );
  }

  /** Watches the presence of some people for as long as a part of the screen shows them. */
  watch(who: string, ids: readonly string[]): () => void {
    this.watchers.set(who, ids);
    this.watchSoon();
    return () => {
      this.watchers.delete(who);
      this.watchSoon();
    };
  }

  private watchSoon(): void {
    clearTimeout(this.watchTimer);
    this.watchTimer = setTimeout(() => {
      const users = [...new Set([...this.watchers.values()].reverse().flat())].slice(0, maxWatched);
      this.client?.request('presence.watch', { users }).then(
        (r) => this.present(r.users),
        () => {},
      );
    }, 150);
  }

  present(rows: PresenceRow[]): void {
    for (const [id, state] of rows) this.presence.set(id, state);
  }
}

export const people = new People();
