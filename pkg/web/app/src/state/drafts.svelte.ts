/**
 * Drafts: what stands in the composer of each conversation. Each keystroke is
 * written to localStorage, which is synchronous, so that a reload, a crash or an
 * empty battery loses nothing.
 */
import { SvelteMap } from 'svelte/reactivity';

export interface Draft {
  text: string;
  replyTo?: number;
  /** The seq of the message that is being edited. */
  edit?: number;
  /** Whom the text names: user id by the name as it stands in the text. */
  mentions?: Record<string, string>;
}

let prefix = '';
const drafts = new SvelteMap<string, Draft>();

/** Takes over the drafts of a user. */
export function openDrafts(userId: string): void {
  prefix = `pipit:draft:${userId}:`;
  drafts.clear();
  for (let i = 0; i < localStorage.length; i++) {
    const k = localStorage.key(i)!;
    if (!k.startsWith(prefix)) continue;
    try {
      drafts.set(k.slice(prefix.length), JSON.parse(localStorage.getItem(k)!) as Draft);
    } catch {
      localStorage.removeItem(k); // cut off by a crash
    }
  }
}

export function draft(conversation: string): Draft {
  return drafts.get(conversation) ?? { text: '' };
}

export function setDraft(conversation: string, d: Draft): void {
  if (!d.text && d.replyTo === undefined && d.edit === undefined) {
    drafts.delete(conversation);
    localStorage.removeItem(prefix + conversation);
    return;
  }
  drafts.set(conversation, d);
  try {
    localStorage.setItem(prefix + conversation, JSON.stringify(d));
  } catch {
    // Storage is full or refused: it is on the screen at least.
  }
}

/** Removes the drafts of the user from this device. */
export function dropDrafts(): void {
  for (const k of Object.keys(localStorage)) if (prefix && k.startsWith(prefix)) localStorage.removeItem(k);
  drafts.clear();
}
