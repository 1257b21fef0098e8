/**
 * Where a client keeps what must outlive it: the outbox above all, and what it
 * has seen. A store belongs to one user of one server. IndexedDB in browsers
 * (indexeddb.ts), memory elsewhere, or any implementation of this interface.
 */

/** The tables. `outbox` is by key, `heads` and `pages` by conversation, the rest by name. */
export type Table = 'outbox' | 'state' | 'heads' | 'pages' | 'people';

export const tables: readonly Table[] = ['outbox', 'state', 'heads', 'pages', 'people'];

/** One change of a batch; without a value the row is removed. */
export interface Change {
  table: Table;
  key: string;
  value?: unknown;
}

export interface Store {
  get<T>(table: Table, key: string): Promise<T | undefined>;
  /** All rows of a table in the order of their keys. */
  all<T>(table: Table): Promise<Array<[key: string, value: T]>>;
  /** Writes all changes or none; resolves when they are stored. */
  write(changes: Change[]): Promise<void>;
  clear(...of: Table[]): Promise<void>;
  /** Removes everything: what sign-out on a shared computer must do. */
  destroy(): Promise<void>;
}

/** A store that lasts as long as the process. */
export class MemoryStore implements Store {
  private readonly rows = new Map<Table, Map<string, unknown>>(tables.map((t) => [t, new Map()]));

  async get<T>(table: Table, key: string): Promise<T | undefined> {
    return structuredClone(this.rows.get(table)!.get(key)) as T | undefined;
  }

  async all<T>(table: Table): Promise<Array<[string, T]>> {
    const rows = [...this.rows.get(table)!] as Array<[string, T]>;
    return structuredClone(rows.sort(([a], [b]) => (a < b ? -1 : 1)));
  }

  async write(changes: Change[]): Promise<void> {
    for (const c of structuredClone(changes)) {
      if (c.value === undefined) this.rows.get(c.table)!.delete(c.key);
      else this.rows.get(c.table)!.set(c.key, c.value);
    }
  }

  async clear(...of: Table[]): Promise<void> {
    for (const t of of) this.rows.get(t)!.clear();
  }

  async destroy(): Promise<void> {
    await this.clear(...tables);
  }
}
