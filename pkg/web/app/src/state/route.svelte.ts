/** Where one is: in the address's fragment, so that back, reload and links work. */
export type Page = 'chats' | 'notices' | 'people' | 'me' | 'admin';
const pages: readonly Page[] = ['chats', 'notices', 'people', 'me', 'admin'];

function read(): { page: Page; conversation?: string; message?: number; rest: string } {
  const [first = '', second = '', third = ''] = location.hash.replace(/^#\/?/, '').split('/');
  if (first === 'c' && second) return { page: 'chats', conversation: decodeURIComponent(second), message: Number(third) || undefined, rest: '' };
  return { page: pages.includes(first as Page) ? (first as Page) : 'chats', rest: second };
}

let current = $state.raw(read());
addEventListener('hashchange', () => (current = read()));

export const route = {
  get page() {
    return current.page;
  },
  get conversation() {
    return current.conversation;
  },
  get message() {
    return current.message;
  },
  get rest() {
    return current.rest;
  },
};

// How many steps of this page lie behind this one; the browser keeps it with each step.
const depth = () => Number((history.state as { depth?: number } | null)?.depth ?? 0);

// A link makes its step by itself, without our mark: one more than the step before it.
let last = depth();
addEventListener('hashchange', () => {
  if ((history.state as { depth?: number } | null)?.depth === undefined) history.replaceState({ depth: last + 1 }, '');
  last = depth();
});

/** Goes somewhere. `replace` leaves no step for the back button. */
export function go(to: string, replace = false): void {
  const hash = `#/${to}`;
  if (location.hash === hash) return;
  if (replace) history.replaceState(history.state, '', hash);
  else history.pushState({ depth: (last = depth() + 1) }, '', hash);
  current = read();
}

/** One step back, as the browser's own button and a swipe do; to `to` if one came straight here. */
export function back(to: string): void {
  if (depth() > 0) history.back();
  else go(to, true);
}

export const goConversation = (id: string, seq?: number) => go(`c/${encodeURIComponent(id)}${seq ? `/${seq}` : ''}`);
