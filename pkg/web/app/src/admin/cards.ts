/** Login cards: a sheet to print, with a code for each person who cannot sign in yet. */
import { i18n } from '../i18n/i18n.svelte';
import { attempt } from '../state/notices.svelte';
import { file } from './rest';

export const cards = (which: { classes?: string[]; users?: string[]; again?: boolean } = {}) =>
  attempt(() => file('/v1/cards', { ...which, format: 'html', lang: i18n.locale === 'en' ? 'en' : 'zh' }, 'cards.html'));
