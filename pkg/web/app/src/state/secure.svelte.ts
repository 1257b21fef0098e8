/**
 * From plain HTTP to HTTPS. A box shows its own certificate, and only some devices
 * trust it, so nobody is sent there: the page finds out whether this device does,
 * and asks. Another scheme is another origin, with a storage of its own; what was
 * written and not sent travels behind the # of the address, which no server sees.
 */
import { IndexedDBStore, newKey, type OutboxItem } from '@pipit/sdk';
import { loadCredentials } from './credentials';
import { go } from './route.svelte';
import { session } from './session.svelte';

const asked = 'pipit:secure-asked'; // when the person said "not now"
const again = 30 * 24 * 3_600_000;
const cookie = 'pipit-move';
const most = 1_000_000; // characters that an address may carry; browsers take more

let url = $state('');

export const secure = {
  /** The address to offer, '' if there is none to. */
  get url() {
    return url;
  },
  notNow() {
    localStorage.setItem(asked, String(Date.now()));
    url = '';
  },
};

/** Looks whether this device trusts the box (localca.Trusted). It says nothing where it does not. */
export async function lookForSecure(): Promise<void> {
  if (location.protocol !== 'http:' || Date.now() - Number(localStorage.getItem(asked)) < again) return;
  const ask = async (at: string) => (await (await fetch(at, { credentials: 'omit', cache: 'no-store' })).json()) as { secure: boolean; https?: string };
  try {
    const { https } = await ask('/v1/trusted');
    if (https && new URL(https).hostname === location.hostname && (await ask(`${https}v1/trusted`)).secure) url = https;
  } catch {
    // The browser refused the certificate, or the box is away.
  }
}

interface Luggage {
  nonce: string;
  hash: string;
  language: string | null;
  theme: string | null;
  tenant?: string;
  user?: string;
  drafts: Record<string, string>;
  outbox: OutboxItem[];
}

/** Goes there with all that is not sent. False if that is too much for an address. */
export async function moveToSecure(): Promise<boolean> {
  const c = loadCredentials();
  const drafts: Record<string, string> = {};
  for (const k of Object.keys(localStorage)) if (k.startsWith('pipit:draft:')) drafts[k] = localStorage.getItem(k)!;
  const outbox = session.client ? (await session.client.store.all<OutboxItem>('outbox')).map(([, item]) => item) : [];
  const luggage: Luggage = {
    nonce: newKey(),
    hash: location.hash,
    language: localStorage.getItem('pipit:language'),
    theme: localStorage.getItem('pipit:theme'),
    drafts,
    outbox,
    ...(c ? { tenant: c.tenantId, user: c.userId } : {}),
  };
  const packed = pack(luggage);
  if (packed.length > most) return false;
  // Cookies know no scheme: that both pages have this one shows the other that it was this browser's page that packed.
  document.cookie = `${cookie}=${luggage.nonce}; path=/; max-age=120; SameSite=Lax`;
  location.href = `${url}#/moved/${packed}`;
  return true;
}

/** On the other side, before anything else: takes over what came along, if anything did. True if somebody moved. */
export async function arrive(): Promise<boolean> {
  const packed = /^#\/moved\/(.*)$/.exec(location.hash)?.[1];
  if (packed === undefined) return false;
  history.replaceState(history.state, '', location.pathname); // out of the address, and out of the history
  const nonce = new RegExp(`(?:^|; )${cookie}=([0-9a-f]+)`).exec(document.cookie)?.[1];
  document.cookie = `${cookie}=; path=/; max-age=0; SameSite=Lax`;
  const luggage = unpack(packed);
  // Anybody can make a link; only a page of this host could set the cookie.
  if (!luggage || !nonce || luggage.nonce !== nonce) return false;
  for (const [k, v] of [['pipit:language', luggage.language], ['pipit:theme', luggage.theme], ...Object.entries(luggage.drafts)] as const)
    if (v && k.startsWith('pipit:') && localStorage.getItem(k) === null) localStorage.setItem(k, v);
  if (luggage.outbox.length > 0 && luggage.tenant && luggage.user) {
    const store = await IndexedDBStore.open(`pipit-${luggage.tenant}-${luggage.user}`);
    await store.write(luggage.outbox.map((item) => ({ table: 'outbox' as const, key: item.key, value: item }))); // their keys stay, so each goes once
    store.close();
  }
  if (/^#\/[\w/%.-]+$/.test(luggage.hash)) go(luggage.hash.slice(2), true);
  return true;
}

function pack(l: Luggage): string {
  const bytes = new TextEncoder().encode(JSON.stringify(l));
  let s = '';
  for (const b of bytes) s += String.fromCharCode(b);
  return btoa(s).replace(/\+/g, '-').replace(/\//g, '_').replace(/=+$/, '');
}

function unpack(s: string): Luggage | undefined {
  try {
    return JSON.parse(new TextDecoder().decode(Uint8Array.from(atob(s.replace(/-/g, '+').replace(/_/g, '/')), (c) => c.charCodeAt(0)))) as Luggage;
  } catch {
    return undefined; // cut off on the way
  }
}
