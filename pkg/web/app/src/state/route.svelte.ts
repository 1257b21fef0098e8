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

/** Goes somewhere. `replace` leaves no step for the back button. */
export function go(to: string, replace = false): void {
  const hash = `#/${to}`;
  if (location.hash === hash) return;
  if (replace) {
    history.replaceState(history.state, '', hash);
    current = read();
  } else location.hash = hash;
}

export const goConversation = (id: string, seq?: number) => go(`c/${encodeURIComponent(id)}${seq ? `/${seq}` : ''}`);
