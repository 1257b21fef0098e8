/** The reader's language: texts, dates and numbers. */
import { en, type Catalogue, type Key } from './en';
import { zh } from './zh';

export type Locale = 'en' | 'zh-CN';
const catalogues: Record<Locale, Catalogue> = { en, 'zh-CN': zh };

function ofDevice(): Locale {
  for (const l of navigator.languages ?? [navigator.language]) {
    if (l.startsWith('zh')) return 'zh-CN';
    if (l.startsWith('en')) return 'en';
  }
  return 'en';
}

const stored = localStorage.getItem('pipit:language');
let choice = $state<Locale | 'auto'>(stored === 'en' || stored === 'zh-CN' ? stored : 'auto');
const current = $derived<Locale>(choice === 'auto' ? ofDevice() : choice);

export const i18n = {
  get choice() {
    return choice;
  },
  get locale() {
    return current;
  },
  choose(l: Locale | 'auto') {
    choice = l;
    if (l === 'auto') localStorage.removeItem('pipit:language');
    else localStorage.setItem('pipit:language', l);
  },
};

type Params<K extends Key> = Catalogue[K] extends (p: infer P) => string ? [params: P] : [];

/** The text of a key in the reader's language. */
export function t<K extends Key>(key: K, ...params: Params<K>): string {
  const text = catalogues[current][key] as string | ((p: unknown) => string);
  return typeof text === 'function' ? text(params[0]) : text;
}

const formats = new Map<string, Intl.DateTimeFormat>();

/** A time in the reader's language, as their region writes it; the name stands for the options. */
export function format(ms: number, name: string, o: Intl.DateTimeFormatOptions): string {
  const id = current + name;
  let f = formats.get(id);
  if (!f) formats.set(id, (f = new Intl.DateTimeFormat(current === 'en' ? navigator.languages?.find((l) => l.startsWith('en')) ?? 'en-GB' : current, o)));
  return f.format(ms);
}

/** Days between two moments in local time: 0 today, 1 yesterday. */
export function daysAgo(ms: number, now = Date.now()): number {
  const day = (t: number) => new Date(t).setHours(0, 0, 0, 0);
  return Math.round((day(now) - day(ms)) / 86_400_000);
}

/** The time of day, such as 09:41. */
export const clock = (ms: number) => format(ms, 'clock', { hour: '2-digit', minute: '2-digit', hourCycle: 'h23' });

/** For a list: the time today, then the weekday, then the date. */
export function when(ms: number): string {
  const d = daysAgo(ms);
  if (d <= 0) return clock(ms);
  if (d === 1) return t('time.yesterday');
  if (d < 7) return format(ms, 'weekday', { weekday: 'short' });
  return new Date(ms).getFullYear() === new Date().getFullYear() ? format(ms, 'date', { month: 'short', day: 'numeric' }) : format(ms, 'year', { year: 'numeric', month: 'short', day: 'numeric' });
}

/** For a day line. */
export function day(ms: number): string {
  const d = daysAgo(ms);
  if (d === 0) return t('time.today');
  if (d === 1) return t('time.yesterday');
  return new Date(ms).getFullYear() === new Date().getFullYear()
    ? format(ms, 'day', { weekday: 'long', month: 'long', day: 'numeric' })
    : format(ms, 'dayyear', { year: 'numeric', month: 'long', day: 'numeric', weekday: 'long' });
}

/** The whole moment, for a title. */
export const moment = (ms: number) => format(ms, 'moment', { dateStyle: 'full', timeStyle: 'short', hourCycle: 'h23' });
