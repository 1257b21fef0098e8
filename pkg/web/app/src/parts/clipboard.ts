import { t } from '../i18n/i18n.svelte';
import { say } from '../state/notices.svelte';

/** Copies a text. navigator.clipboard is missing on plain HTTP, so there is the old way too. */
export async function copy(text: string): Promise<void> {
  try {
    if (navigator.clipboard) await navigator.clipboard.writeText(text);
    else {
      const area = document.createElement('textarea');
      area.value = text;
      area.className = 'sr';
      (document.querySelector('dialog[open]') ?? document.body).append(area);
      area.select();
      const ok = document.execCommand('copy');
      area.remove();
      if (!ok) throw new Error('refused');
    }
    say(t('act.copied'));
  } catch {
    say(t('error.generic'));
  }
}
