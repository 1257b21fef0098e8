/**
 * The signed-in user's session: one SDK client, and what the components read of
 * it. The SDK is plain; this file turns its events into reactive state.
 */
import { Client, IndexedDBStore, MemoryStore, PipitError, rest, signIn, signOut, type Head, type SignedIn, type OutboxItem, type Pause, type State, type Store } from '@pipit/sdk';
import { SvelteMap } from 'svelte/reactivity';
import { dropCredentials, loadCredentials, onCredentials, saveCredentials, type Credentials } from './credentials';
import { dropDrafts, openDrafts } from './drafts.svelte';
import { people } from './people.svelte';

const url = location.origin;

class Session {
  client = $state.raw<Client | undefined>();
  state = $state<State>('idle');
  retryAt = $state(0);
  code = $state(0);
  /** What the last sign-in page should say. */
  why = $state<'' | 'again' | 'moved'>('');
  /** Recovery codes that a sign-in made: they are shown once, before anything else. */
  codes = $state.raw<readonly string[]>([]);
  /** True once somebody signed out on this page. */
  left = $state(false);
  /** True once what is stored here has been read. */
  loaded = $state(false);
  outbox = $state.raw<readonly OutboxItem[]>([]);
  pause = $state.raw<Pause | undefined>();
  readonly heads = new SvelteMap<string, Head>();
  user = $state.raw<{ id: string; name: string; username: string; role: string } | undefined>();
  tenant = $state.raw<{ id: string; name: string } | undefined>();
  limits = $state.raw({ text_bytes: 16384 });
  typing = new SvelteMap<string, Map<string, number>>();
  private credentials: Credentials | undefined;

  get signedIn(): boolean {
    return this.client !== undefined && this.state !== 'signed-out';
  }

  /** Takes up the sign-in that this browser has, if it has one. */
  async resume(): Promise<void> {
    onCredentials(() => {
      if (loadCredentials()?.userId !== this.credentials?.userId) location.reload();
    });
    const c = loadCredentials() ?? (await this.adopt());
    if (c) await this.open(c);
  }

  /** Takes over a sign-in that was made on a page without script: its cookie is here, and only the server can say whose it is. */
  private async adopt(): Promise<Credentials | undefined> {
    try {
      const me = await rest<{ user: { id: string }; tenant: { id: string } }>(url, 'GET', '/v1/me');
      const c = { userId: me.user.id, tenantId: me.tenant.id };
      saveCredentials(c);
      return c;
    } catch {
      return undefined;
    }
  }

  async signIn(username: string, password: string, keep: boolean, more: { tenant?: string; totp?: string; new_password?: string } = {}): Promise<void> {
    await this.enter(await signIn(url, { username, password, device: device(), cookie: true, keep, ...more }));
  }

  /** Uses an invitation: chooses a password and is signed in. */
  async join(what: { tenant: string; code: string; password: string; username?: string; name?: string }, keep: boolean): Promise<void> {
    await this.enter(await rest<SignedIn>(url, 'POST', '/v1/invitations/accept', { body: { ...what, device: device(), cookie: true, keep } }));
  }

  /** Signs in with what the browser answered for a passkey. */
  async passkey(state: string, result: object, keep: boolean): Promise<void> {
    await this.enter(await rest<SignedIn>(url, 'POST', '/v1/passkeys/sessions', { body: { state, result, name: device(), cookie: true, keep } }));
  }

  private async enter(s: SignedIn): Promise<void> {
    const c = { userId: s.user.id, tenantId: s.tenant.id };
    saveCredentials(c);
    this.codes = s.recovery_codes ?? [];
    await this.close();
    await this.open(c);
  }

  /** Signs out and removes what this device holds of the user. */
  async signOut(): Promise<void> {
    const c = this.credentials;
    const store = this.client?.store;
    await this.close();
    dropCredentials();
    dropDrafts();
    await store?.destroy().catch(() => {});
    if (c) await signOut(url).catch(() => {}); // offline: the sign-in ends by itself
    location.hash = '';
    this.user = undefined;
    this.why = '';
    this.left = true;
  }

  private async close(): Promise<void> {
    await this.client?.stop();
    this.client = undefined;
    this.heads.clear();
    this.outbox = [];
    this.loaded = false;
    this.state = 'idle';
  }

  private async open(c: Credentials): Promise<void> {
    this.credentials = c;
    this.why = '';
    openDrafts(c.userId);
    let store: Store;
    try {
      store = await IndexedDBStore.open(`pipit-${c.tenantId}-${c.userId}`);
    } catch {
      store = new MemoryStore(); // a private window: it works, and forgets at the end
    }
    const client = new Client({ url, client: 'pipit-web/0.1.0', store });
    client.on('state', (s) => this.moved(client, s));
    client.on('conversations', (ids) => this.took(client, ids));
    client.on('outbox', () => this.sending(client));
    client.on('hello', (h) => {
      this.user = h.user;
      this.tenant = h.tenant;
      this.limits = h.limits;
      people.know([h.user]);
    });
    client.on('typing', (e) => this.typed(e.conversation, e.user));
    client.on('entry', (e) => this.typing.get(e.conversation)?.delete(e.by) && this.typing.set(e.conversation, new Map(this.typing.get(e.conversation))));
    client.on('presence', (e) => people.present(e.users));
    people.attach(client);
    await client.load();
    const h = client.hello;
    if (h) {
      this.user = h.user;
      this.tenant = h.tenant;
      this.limits = h.limits;
      people.know([h.user]);
    }
    this.client = client;
    this.loaded = true;
    await client.start();
  }

  private moved(client: Client, s: State): void {
    this.state = s;
    this.retryAt = client.retryAt;
    this.code = client.code;
    if (s === 'online') people.online();
    if (s === 'signed-out') {
      this.why = 'again';
      dropCredentials(); // the token is dead; outbox, drafts and cache stay for the next sign-in
      void client.stop();
      this.client = undefined;
      this.credentials = undefined;
      this.state = 'signed-out';
    }
  }

  private took(client: Client, ids: string[] | undefined): void {
    if (!ids) {
      for (const id of [...this.heads.keys()]) if (!client.conversations.has(id)) this.heads.delete(id);
      ids = [...client.conversations.keys()];
    }
    for (const id of ids) {
      const h = client.conversations.get(id);
      if (h) {
        this.heads.set(id, h);
        if (h.peer) people.know([{ ...h.peer, role: '' }]);
      } else this.heads.delete(id);
    }
  }

  private sending(client: Client): void {
    this.outbox = client.outbox.items.map((i) => ({ ...i }));
    this.pause = client.outbox.pause;
  }

  private typed(conversation: string, user: string): void {
    const now = new Map(this.typing.get(conversation));
    now.set(user, Date.now());
    this.typing.set(conversation, now);
    setTimeout(() => {
      const list = new Map(this.typing.get(conversation));
      if (Date.now() - (list.get(user) ?? 0) < 4900) return;
      list.delete(user);
      this.typing.set(conversation, list);
    }, 5000);
  }
}

/** What this device is called in the list of sign-ins. */
export function device(): string {
  const ua = navigator.userAgent;
  // The more telling name first: Android's says Linux as well.
  const system = ['Android', 'iPhone', 'iPad', 'Windows', 'Mac OS', 'CrOS', 'Linux'].find((s) => ua.includes(s))?.replace('Mac OS', 'Mac').replace('CrOS', 'Chromebook') ?? '';
  const browser = ['Edg', 'Firefox', 'Chrome', 'Safari'].find((s) => ua.includes(s))?.replace('Edg', 'Edge') ?? 'Browser';
  return system ? `${browser}, ${system}` : browser;
}

export { PipitError };
export const session = new Session();

// The page goes away, comes back, or the network does: the SDK wants to know.
addEventListener('online', () => session.client?.wake());
addEventListener('offline', () => session.client?.doubt());
addEventListener('pageshow', () => session.client?.wake());
addEventListener('pagehide', () => void session.client?.flush());
document.addEventListener('visibilitychange', () => {
  const c = session.client;
  if (document.visibilityState === 'visible') c?.wake();
  else void c?.flush();
  c?.notify('presence.set', { state: document.visibilityState === 'visible' ? 'online' : 'away' });
});
