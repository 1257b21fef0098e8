import { expect, test } from 'vitest';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { en } from '../src/i18n/en';
import { zh } from '../src/i18n/zh';

const src = new URL('../src', import.meta.url).pathname;
const files = (dir: string): string[] => readdirSync(dir).flatMap((f) => (statSync(join(dir, f)).isDirectory() ? files(join(dir, f)) : [join(dir, f)]));
const code = files(src)
  .filter((f) => /\.(svelte|ts)$/.test(f) && !/\/(en|zh)\.ts$/.test(f))
  .map((f) => readFileSync(f, 'utf8'))
  .join('\n');
const value = (text: unknown) => (typeof text === 'function' ? (text as (p: object) => string)({ n: 3, name: 'Ann', by: 'Bob', title: 'T', role: 'R', q: 'Q', device: 'D', emoji: '👍', when: '7', text: 'X', of: 4 }) : (text as string));

test('the catalogues have the same keys, none is empty, and numbers are shown in both', () => {
  expect(Object.keys(zh).sort()).toEqual(Object.keys(en).sort());
  for (const key of Object.keys(en) as Array<keyof typeof en>) {
    expect(value(en[key]).trim(), key).not.toBe('');
    expect(value(zh[key]).trim(), key).not.toBe('');
    expect(value(en[key]), key).not.toMatch(/undefined|NaN/);
    expect(value(zh[key]), key).not.toMatch(/undefined|NaN/);
  }
});

test('no key is unused', () => {
  const unused = Object.keys(en).filter((k) => !code.includes(`'${k}'`) && !/^(role|tenantrole)\.|^admin\.(people|invitations|settings)$/.test(k));
  expect(unused).toEqual([]);
});

test('Chinese texts use full-width punctuation, and a space between Han and Latin or digits', () => {
  for (const [key, text] of Object.entries(zh)) {
    const v = value(text).replace(/Pipit|Ann|Bob/g, '');
    expect(v, key).not.toMatch(/\p{Script=Han}[,;:?!]|[,;:?!]\p{Script=Han}/u);
    expect(v, key).not.toMatch(/\p{Script=Han}[0-9]|[0-9]\p{Script=Han}/u);
  }
});

test('no text for people stands outside the catalogues', () => {
  for (const f of files(src).filter((f) => f.endsWith('.svelte'))) {
    const markup = readFileSync(f, 'utf8').replace(/<script[\s\S]*?<\/script>|<style[\s\S]*?<\/style>|<!--[\s\S]*?-->/g, '').replace(/\{(?:[^{}]|\{[^{}]*\})*\}/g, '');
    const texts = [...markup.replace(/&\w+;/g, '').matchAll(/>([^<>{}]*\p{L}{3,}[^<>{}]*)</gu)].map((m) => m[1]!.trim()).filter((t) => t && !/^(English|中文（简体）)$/.test(t));
    expect(texts, f).toEqual([]);
  }
});
