import { expect, test } from 'vitest';
import { parse, preview, safe, type Block, type Inline } from '../src/chat/richtext';

/** The tree as a short text, to be read beside the source. */
const show = (list: Inline[]): string => list.map((n) => (n.t === 'text' ? n.v : n.t === 'code' ? `<code ${n.v}>` : n.t === 'mention' ? `<at ${n.user}>` : n.t === 'link' ? `<a ${n.href} ${show(n.c)}>` : `<${n.t} ${show(n.c)}>`)).join('');
const blocks = (b: Block[]) => b.map((x) => (x.t === 'code' ? `[code ${x.lang} ${x.v}]` : x.t === 'quote' ? `[quote ${show(x.c)}]` : show(x.c))).join('|');

test.each([
  ['plain', 'plain'],
  ['**bold** and *italic* and ~~gone~~', '<bold bold> and <italic italic> and <strike gone>'],
  ['**粗体**文字', '<bold 粗体>文字'],
  ['2 * 3 * 4', '2 * 3 * 4'],
  ['**open', '**open'],
  ['** not bold **', '** not bold **'],
  ['`a*b*c`', '<code a*b*c>'],
  ['snake_case_name', 'snake_case_name'],
  ['**a *b* c**', '<bold a <italic b> c>'],
  ['see https://a.example/x.', 'see <a https://a.example/x https://a.example/x>.'],
  ['看https://a.example/x，好吗', '看<a https://a.example/x https://a.example/x>，好吗'],
  ['xhttps://a.example/', 'xhttps://a.example/'],
  ['看 https://a.example/x，好吗', '看 <a https://a.example/x https://a.example/x>，好吗'],
  ['[text](https://a.example/)', '<a https://a.example/ text>'],
  ['[text](javascript:alert(1))', '[text](javascript:alert(1))'],
  ['[text](data:text/html,x)', '[text](data:text/html,x)'],
  ['> one\n> two\nthree', '[quote one\ntwo]|three'],
  ['a\n```js\nlet x;\n```\nb', 'a|[code js let x;]|b'],
  ['```\nnever closed', '```\nnever closed'],
  ['hi @Ann Lee!', 'hi <at u_1>!'],
  ['<b>x</b>', '<b>x</b>'],
])('%s', (text, want) => expect(blocks(parse(text, [{ name: 'Ann Lee', user: 'u_1' }]))).toBe(want));

test('every character of a text is in its tree, whatever the text', () => {
  let seed = 11;
  const random = (n: number) => (seed = (seed * 48271) % 2147483647) % n;
  const parts = ['*', '**', '~~', '`', '[', '](', ')', 'https://a.b/', '\n', '> ', '```', '\n```\n', '@Ann', ' ', 'x', '你', '<i>', '😀'];
  const flat = (list: Inline[]): string => list.map((n) => ('v' in n ? n.v : flat(n.c))).join('');
  for (let i = 0; i < 3000; i++) {
    const text = Array.from({ length: 1 + random(30) }, () => parts[random(parts.length)]).join('');
    const out = parse(text, [{ name: 'Ann', user: 'u' }]).map((b) => (b.t === 'code' ? b.v : flat(b.c))).join('');
    // Marks go, letters stay.
    for (const c of ['x', '你', '😀']) expect([...out].filter((o) => o === c).length, JSON.stringify(text)).toBe([...text].filter((o) => o === c).length);
  }
});

test('a long hostile text costs little', () => {
  for (const s of ['*', '**', '[', '`', '@', '~~', '> ', '](', 'h', 'http', '**a ', '```\n']) {
    const began = performance.now();
    parse(s.repeat(16384 / s.length));
    expect(performance.now() - began).toBeLessThan(5000);
  }
});

test('only http and https are links', () => {
  for (const bad of ['javascript:1', 'JAVASCRIPT:1', ' javascript:1', 'data:x', 'vbscript:x', 'file:///x', 'blob:x', 'http://', '//x', 'x']) expect(safe(bad), bad).toBeUndefined();
  expect(safe('HTTPS://A.example')).toBe('https://a.example/');
});

test('previews are one line without marks', () => {
  expect(preview('> **a**\n\n`b`')).toBe('a b');
});
