/** What the server says of a roster, in the reader's language. */
import { sew } from '../i18n/han';
import { i18n, t } from '../i18n/i18n.svelte';
import { roster } from './i18n/roster.zh';
import { roles } from './roles';
import type { Said } from './shapes';

const role = (word: string) => (word === 'bot' || (roles as readonly string[]).includes(word) ? t(`tenantrole.${word as 'bot' | (typeof roles)[number]}`) : word);

/** A sentence; in the server's words where this page is older than it. */
export function said(s: Said): string {
  const words = i18n.locale === 'en' ? undefined : roster[s.format];
  return words ? sew(words.split(/(\{\d+(?::role)?\})/).map((part) => {
    const slot = /^\{(\d+)(:role)?\}$/.exec(part);
    return slot ? (slot[2] ? role : String)(s.args?.[Number(slot[1]) - 1] ?? '') : part;
  })) : s.text;
}
