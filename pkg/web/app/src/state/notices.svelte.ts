/** Short words at the foot of the screen: what happened to what one asked for. */
import { ConnectionLost, PipitError } from '@pipit/sdk';
import { t } from '../i18n/i18n.svelte';

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

/** What an error means, in the reader's language where we have words for it, else in the server's. */
export function words(e: unknown): string {
  if (e instanceof ConnectionLost || e instanceof TypeError) return t('error.offline');
  if (e instanceof PipitError) {
    if (e.kind === 'rate_limited') return t('error.rate');
    if (e.kind === 'unavailable') return t('error.full');
    if (e.kind !== 'internal' && e.message) return e.message;
  }
  return t('error.generic');
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
