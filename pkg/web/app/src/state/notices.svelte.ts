/** Short words at the foot of the screen: what happened to what one asked for. */
import { ConnectionLost, PipitError } from '@pipit/sdk';
import { i18n, t } from '../i18n/i18n.svelte';
import { refused } from '../i18n/refused.zh';

let text = $state('');
let timer: ReturnType<typeof setTimeout> | undefined;

export const notice = {
  get text() {
    return text;
  },
};

export function say(words: string): void {
  text = words;
  clearTimeout(timer);
  timer = setTimeout(() => (text = ''), 5000);
}

/** An error as the server says it, live or kept in the outbox. */
type Refusal = Pick<PipitError, 'message' | 'field'> & { kind: string };

/** What an error means, in the reader's language. */
export function words(e: unknown): string {
  if (e instanceof ConnectionLost || e instanceof TypeError) return t('error.offline');
  if (e instanceof PipitError) {
    if (e.kind === 'rate_limited') return t('error.rate');
    if (e.kind === 'unavailable') return t('error.full');
    return phrase(e);
  }
  return t('error.generic');
}

/** Why the server refused: its own sentence for who reads English, else ours for what it means. */
export function phrase(e: Refusal): string {
  if (!e.kind || e.kind === 'internal' || !e.message) return t('error.generic');
  if (i18n.locale === 'en') return e.message;
  const ours = refused[e.message] ?? refused[`${e.kind} ${e.field}`];
  if (ours) return ours;
  // Where the kind says too little, the server's sentence stands behind it.
  const kind = refused[e.kind] ?? t('error.generic');
  return !['invalid', 'exists', 'conflict'].includes(e.kind) ? kind : `${kind}（${e.message}）`;
}

/** Runs what a button does, and says so if it fails. */
export async function attempt(fn: () => Promise<unknown>): Promise<boolean> {
  try {
    await fn();
    return true;
  } catch (e) {
    say(words(e));
    return false;
  }
}
