import { tables, type Change, type Store, type Table } from './store.js';

/**
 * A store in the browser's IndexedDB. Writes ask for strict durability, because
 * an outbox that a crash of the phone forgets has lost a message.
 */
export class IndexedDBStore implements Store {
  private constructor(
    private readonly db: IDBDatabase,
    private readonly name: string,
  ) {}

  /** Opens (and makes) the database. Rejects where the browser refuses one: private windows of some do. */
  static open(name: string, factory: IDBFactory = indexedDB): Promise<IndexedDBStore> {
    return new Promise((resolve, reject) => {
      const r = factory.open(name, 1);
      r.onupgradeneeded = () => {
        for (const t of tables) r.result.createObjectStore(t);
      };
      r.onsuccess = () => {
        // Another tab that signs out wants to remove it: let go.
        r.result.onversionchange = () => r.result.close();
        resolve(new IndexedDBStore(r.result, name));
      };
      r.onerror = () => reject(r.error ?? new Error('the browser refused a database'));
      r.onblocked = () => reject(new Error('another tab holds the database'));
    });
  }

  get<T>(table: Table, key: string): Promise<T | undefined> {
    return done(this.db.transaction(table).objectStore(table).get(key) as IDBRequest<T | undefined>);
  }

  async all<T>(table: Table): Promise<Array<[string, T]>> {
    const s = this.db.transaction(table).objectStore(table);
    const [keys, values] = await Promise.all([done(s.getAllKeys()), done(s.getAll() as IDBRequest<T[]>)]);
    return keys.map((k, i) => [String(k), values[i]!]);
  }

  write(changes: Change[]): Promise<void> {
    if (changes.length === 0) return Promise.resolve();
    const used = [...new Set(changes.map((c) => c.table))];
    return this.update(used, (t) => {
      for (const c of changes) {
        if (c.value === undefined) t.objectStore(c.table).delete(c.key);
        else t.objectStore(c.table).put(c.value, c.key);
      }
    });
  }

  clear(...of: Table[]): Promise<void> {
    return this.update(of, (t) => {
      for (const name of of) t.objectStore(name).clear();
    });
  }

  /** Lets go of the database; what is stored stays. */
  close(): void {
    this.db.close();
  }

  destroy(): Promise<void> {
    this.db.close();
    return new Promise((resolve, reject) => {
      const r = indexedDB.deleteDatabase(this.name);
      r.onsuccess = () => resolve();
      r.onerror = () => reject(r.error);
      r.onblocked = () => resolve(); // goes when the other tab lets go
    });
  }

  private update(of: Table[], fn: (t: IDBTransaction) => void): Promise<void> {
    return new Promise((resolve, reject) => {
      const t = this.db.transaction(of, 'readwrite', { durability: 'strict' });
      t.oncomplete = () => resolve();
      t.onabort = t.onerror = () => reject(t.error ?? new Error('not stored'));
      fn(t);
    });
  }
}

function done<T>(r: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    r.onsuccess = () => resolve(r.result);
    r.onerror = () => reject(r.error);
  });
}
