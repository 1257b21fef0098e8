import { expect, test } from 'vitest';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { en } from '../src/i18n/en';
import { han } from '../src/i18n/han';
import { zh } from '../src/i18n/zh';
import { en as adminEn } from '../src/admin/i18n/en';
import { zh as adminZh } from '../src/admin/i18n/zh';

const src = new URL('../src', import.meta.url).pathname;
const files = (dir: string): string[] => readdirSync(dir).flatMap((f) => (statSync(join(dir, f)).isDirectory() ? files(join(dir, f)) : [join(dir, f)]));
const code = files(src)
  .filter((f) => /\.(svelte|ts)$/.test(f) && !/\/(en|zh)\.ts$/.test(f))
  .map((f) => readFileSync(f, 'utf8'))
  .join('\n');
const value = (text: unknown, ann = 'Ann') => (typeof text === 'function' ? (text as (p: object) => string)({ n: 3, name: ann, by: ann, title: ann, role: ann, q: ann, device: ann, emoji: '👍', when: '7', text: 'X', of: 4, most: 5, part: '1', all: '2', used: '1', free: '1', people: 3, classes: 2, format: 'CSV', value: 'V', kind: 'CSV', records: 9, size: '1 MB', now: '1', least: '0', time: '2', version: '1', id: 'x', low: '1', found: '2', allowed: '3', wanted: '4', end: '5', limit: '6', last: '7' }) : (text as string));

const catalogues: Array<[string, Record<string, unknown>, Record<string, unknown>]> = [['chat', en, zh], ['console', adminEn, adminZh]];

test('the catalogues have the same keys, none is empty, and numbers are shown in both', () => {
  for (const [name, english, chinese] of catalogues) {
    expect(Object.keys(chinese).sort(), name).toEqual(Object.keys(english).sort());
    for (const key of Object.keys(english)) {
      for (const text of [value(english[key]), value(chinese[key])]) {
        expect(text.trim(), key).not.toBe('');
        expect(text, key).not.toMatch(/undefined|NaN/);
      }
    }
  }
});

test('each condition of the box has its words', () => {
  const codes = [...readFileSync(new URL('../../../health/conditions.go', import.meta.url), 'utf8').matchAll(/\bCode: "([a-z-]+)"/g)].map((m) => m[1]!);
  expect(codes).toContain('disk-full');
  const wanted = codes.flatMap((c) => ['title', 'text', 'hint'].map((part) => `health.${c}.${part}`));
  for (const [, english, chinese] of catalogues.slice(1)) for (const c of [english, chinese]) expect(wanted.filter((k) => typeof c[k] !== 'string')).toEqual([]);
});

test('no key is unused', () => {
  const unused = Object.keys(en).filter((k) => !code.includes(`'${k}'`) && !/^(role|tenantrole)\./.test(k));
  expect(unused).toEqual([]);
  // What the console looks up by a code of the server, or of a row of a list.
  const byCode = /^(page|health|backups\.place|backups\.why|roster\.count|rules\.kind|rules\.value|signin\.kind|scope|result|actor|action|detail|quota)\.|^rules\.(direct|see)(\.text)?$|^class\.(students|teachers)(\.add)?$/;
  expect(Object.keys(adminEn).filter((k) => !code.includes(`'${k}'`) && !byCode.test(k))).toEqual([]);
});

test('Chinese texts use full-width punctuation, and a space between Han and Latin or digits', () => {
  for (const [key, text] of [...Object.entries(zh), ...Object.entries(adminZh)]) {
    if (key === 'roster.example') continue; // a CSV file
    const v = value(text);
    expect(v, key).not.toMatch(/\p{Script=Han}[,;:?!]|[,;:?!]\p{Script=Han}/u);
    expect(v, key).not.toMatch(/\p{Script=Han}[0-9A-Za-z]|[0-9A-Za-z]\p{Script=Han}/u);
    // The same of people with Chinese names: no gap in a row of Chinese.
    if (typeof text === 'function') expect(value(text, '王小明'), key).not.toMatch(/\p{Script=Han} +\p{Script=Han}|[，。：；！？、“（] | [，。：；！？、”）]/u);
  }
});

test('names are sewn into a Chinese text with a space where Chinese and Latin meet', () => {
  const to = (name: string) => han`发消息到${name}`;
  expect([to('Ann'), to('王小明'), to('5A班'), to('Lin 老师'), to('👍')]).toEqual(['发消息到 Ann', '发消息到王小明', '发消息到 5A班', '发消息到 Lin 老师', '发消息到👍']);
  expect([han`以 ${'Ann'} 的名义`, han`以 ${'王小明'} 的名义`, han`以 ${''} 的名义`]).toEqual(['以 Ann 的名义', '以王小明的名义', '以的名义']);
  expect(han`“${'Ann'}”的消息`).toBe('“Ann”的消息');
});

test('no text for people stands outside the catalogues', () => {
  for (const f of files(src).filter((f) => f.endsWith('.svelte'))) {
    const markup = readFileSync(f, 'utf8').replace(/<script[\s\S]*?<\/script>|<style[\s\S]*?<\/style>|<!--[\s\S]*?-->/g, '').replace(/\{(?:[^{}]|\{[^{}]*\})*\}/g, '');
    const texts = [...markup.replace(/&\w+;/g, '').matchAll(/>([^<>{}]*\p{L}{3,}[^<>{}]*)</gu)].map((m) => m[1]!.trim()).filter((t) => t && !/^(English|中文（简体）)$/.test(t));
    expect(texts, f).toEqual([]);
  }
});
