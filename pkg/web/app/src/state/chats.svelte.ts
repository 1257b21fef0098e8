/** The list of conversations, and what it is called when the user acts on it. */
import type { ConversationKind, Head } from '@pipit/sdk';
import { people } from './people.svelte';
import { goConversation } from './route.svelte';
import { session } from './session.svelte';

/** What a conversation is called. */
export function title(h: Head | undefined): string {
  if (!h) return '';
  return h.peer ? h.peer.name || h.peer.username : (h.title ?? '');
}

const sorted = $derived([...session.heads.values()].sort((a, b) => (b.updated ?? 0) - (a.updated ?? 0) || (a.id < b.id ? 1 : -1)));

export const chats = {
  /** Newest first. */
  get list(): Head[] {
    return sorted;
  },
  get unread(): number {
    return sorted.filter((h) => h.kind !== 'notice').reduce((n, h) => n + (h.unread ?? 0), 0);
  },
  get unreadNotices(): number {
    return sorted.filter((h) => h.kind === 'notice').reduce((n, h) => n + (h.unread ?? 0), 0);
  },
  get mentions(): number {
    return sorted.reduce((n, h) => n + (h.mentions ?? 0), 0);
  },
};

function put(h: Head): void {
  session.client?.conversations.set(h.id, h);
  session.heads.set(h.id, h);
  if (h.peer) people.know([{ ...h.peer, role: '' }]);
}

/** Opens the direct conversation with somebody; it is made on first use. */
export async function writeTo(user: string): Promise<void> {
  const known = [...session.heads.values()].find((h) => h.peer?.id === user);
  const h = known ?? (await session.client!.request('conversation.direct', { user }));
  put(h);
  goConversation(h.id);
}

/** Makes a conversation; the key stays the same while the same form is sent again. */
export async function create(kind: ConversationKind, name: string, members: string[], key: string): Promise<void> {
  const h = await session.client!.request('conversation.create', { kind, title: name, ...(members.length > 0 ? { members } : {}), key });
  put(h);
  goConversation(h.id);
}

export async function join(id: string): Promise<void> {
  const h = await session.client!.request('conversation.join', { id });
  put(h);
  goConversation(id);
}
