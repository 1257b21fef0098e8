/** The console's own catalogue, so that people who only chat do not load it. */
import { clock, format, i18n } from '../i18n/i18n.svelte';
import { en, type AdminCatalogue, type AdminKey } from './i18n/en';
export { clock };
export type { AdminKey };
import { zh } from './i18n/zh';

type Params<K extends AdminKey> = AdminCatalogue[K] extends (p: infer P) => string ? [params: P] : [];
const catalogue = () => (i18n.locale === 'en' ? en : zh) as Record<string, string | ((p: unknown) => string)>;

/** The text of a key in the reader's language. */
export function a<K extends AdminKey>(key: K, ...params: Params<K>): string {
  const text = catalogue()[key]!;
  return typeof text === 'function' ? text(params[0]) : text;
}

/** The text of a thing that the server names by a code; undefined for one that is newer than this page. */
export function coded(prefix: string, code: string): string | undefined {
  const text = catalogue()[`${prefix}.${code}`];
  return typeof text === 'string' ? text : undefined;
}

/** What the server says in figures, in the reader's language; undefined where we have no words for it. */
export function figures(prefix: string, code: string, all: Record<string, number> | undefined): string | undefined {
  const text = catalogue()[`${prefix}.${code}.figures`];
  if (!all || typeof text !== 'function') return undefined;
  const said: Record<string, string> = {};
  for (const [name, n] of Object.entries(all)) {
    if (name.endsWith('_bytes')) said[name.slice(0, -6)] = bytes(n);
    else if (name.endsWith('_ms')) said[name.slice(0, -3)] = n > 0 ? day(n) : '';
    else said[name] = number(n);
  }
  return text(said);
}

export const number = (n: number, digits = 0) => n.toLocaleString(i18n.locale, { maximumFractionDigits: digits });

/** Bytes as people read them: 1.4 GB. */
export function bytes(n: number): string {
  for (const [size, unit] of [[1e12, 'TB'], [1e9, 'GB'], [1e6, 'MB'], [1e3, 'kB']] as const) if (n >= size) return `${number(n / size, n < 10 * size ? 1 : 0)} ${unit}`;
  return a('unit.bytes', { n });
}

export function duration(seconds: number): string {
  if (seconds >= 2 * 86_400) return a('unit.days', { n: Math.floor(seconds / 86_400) });
  if (seconds >= 2 * 3600) return a('unit.hours', { n: Math.floor(seconds / 3600) });
  return a('unit.minutes', { n: Math.floor(seconds / 60) });
}

/** Microseconds as milliseconds. */
export const milliseconds = (us: number) => `${number(us / 1000, us < 10_000 ? 1 : 0)} ms`;

export const moment = (ms: number) => format(ms, 'console.moment', { dateStyle: 'medium', timeStyle: 'short', hourCycle: 'h23' });
export const day = (ms: number) => format(ms, 'console.day', { dateStyle: 'medium' });
