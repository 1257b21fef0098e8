/**
 * The small subset of Markdown that messages may use, as a tree. Components
 * render the tree as elements with text inside, so nothing that a message says
 * can become markup: there is no HTML text anywhere on the way.
 *
 * Blocks: fenced code, quoted lines. Inline: code, **bold**, *italic*,
 * ~~struck~~, [text](https://…), bare links, and the people that the message
 * names. Anything that is not closed stays as it was typed. Time is linear in
 * the text but for a search for the end of each mark, which is bounded.
 */
export type Inline =
  | { t: 'text'; v: string }
  | { t: 'code'; v: string }
  | { t: 'bold'; c: Inline[] }
  | { t: 'italic'; c: Inline[] }
  | { t: 'strike'; c: Inline[] }
  | { t: 'link'; href: string; c: Inline[] }
  | { t: 'mention'; v: string; user: string };

export type Block = { t: 'text'; c: Inline[] } | { t: 'quote'; c: Inline[] } | { t: 'code'; v: string; lang: string };

/** Whom a message names: name as it stands in the text, without the @, and the user's id. */
export interface Mention {
  name: string;
  user: string;
}

const maxMark = 2000; // a mark whose end is further away is text
const maxDepth = 4;

export function parse(text: string, mentions: readonly Mention[] = []): Block[] {
  const names = mentions.filter((m) => m.name).sort((a, b) => b.name.length - a.name.length);
  const out: Block[] = [];
  const lines = text.split('\n');
  let plain: string[] = [];
  let quoted: string[] = [];
  const flush = () => {
    // Line breaks around a block are the block's own.
    if (plain.length > 0 && (plain.length > 1 || plain[0] !== '')) out.push({ t: 'text', c: inline(plain.join('\n'), names, 0) });
    if (quoted.length > 0) out.push({ t: 'quote', c: inline(quoted.join('\n'), names, 0) });
    plain = [];
    quoted = [];
  };
  for (let i = 0; i < lines.length; i++) {
    const line = lines[i]!;
    const fence = /^```([\w+#.-]{0,20})\s*$/.exec(line);
    if (fence) {
      const end = lines.indexOf('```', i + 1);
      if (end > i) {
        flush();
        out.push({ t: 'code', v: lines.slice(i + 1, end).join('\n'), lang: fence[1]! });
        i = end;
        continue;
      }
    }
    const quote = /^> ?(.*)$/.exec(line);
    if (quote) {
      if (plain.length > 0) flush();
      quoted.push(quote[1]!);
    } else {
      if (quoted.length > 0) flush();
      plain.push(line);
    }
  }
  flush();
  return out;
}

const linkStart = /https?:\/\//iy;
// A link ends at white space, at quotes and brackets, at Chinese punctuation, and before closing punctuation.
const linkBody = /https?:\/\/[^\s<>"'`，。；：！？、）】》」』“”‘’（【《]+/iy;
const trailing = /[.,;:!?)\]}*_~]+$/;
const wordBefore = /[a-z0-9_]$/i; // Han stands before a link without a space

function inline(s: string, names: readonly Mention[], depth: number): Inline[] {
  const out: Inline[] = [];
  let from = 0; // of the text that is not yet in out
  let i = 0;
  const put = (node: Inline, end: number) => {
    if (i > from) out.push({ t: 'text', v: s.slice(from, i) });
    out.push(node);
    from = i = end;
  };
  const marked = (mark: string, kind: 'bold' | 'italic' | 'strike'): boolean => {
    const open = i + mark.length;
    const close = end(s, mark, open);
    if (close < 0 || depth >= maxDepth) return false;
    put({ t: kind, c: inline(s.slice(open, close), names, depth + 1) }, close + mark.length);
    return true;
  };
  while (i < s.length) {
    const ch = s[i]!;
    if (ch === '`') {
      const close = s.indexOf('`', i + 1);
      if (close > i + 1 && close - i < maxMark && !s.slice(i + 1, close).includes('\n')) {
        put({ t: 'code', v: s.slice(i + 1, close) }, close + 1);
        continue;
      }
    } else if (ch === '*') {
      if (s[i + 1] === '*' ? marked('**', 'bold') : marked('*', 'italic')) continue;
      if (s[i + 1] === '*') i++;
    } else if (ch === '~' && s[i + 1] === '~') {
      if (marked('~~', 'strike')) continue;
      i++;
    } else if (ch === '@') {
      const m = names.find((n) => s.startsWith(n.name, i + 1));
      if (m) {
        put({ t: 'mention', v: m.name, user: m.user }, i + 1 + m.name.length);
        continue;
      }
    } else if (ch === '[' && depth < maxDepth) {
      const named = namedLink(s, i);
      if (named) {
        put({ t: 'link', href: named.href, c: [{ t: 'text', v: named.label }] }, named.end);
        continue;
      }
    } else if ((ch === 'h' || ch === 'H') && at(linkStart, s, i) && !wordBefore.test(s.slice(Math.max(0, i - 2), i))) {
      const url = at(linkBody, s, i)?.replace(trailing, '') ?? '';
      const href = safe(url);
      if (href) {
        put({ t: 'link', href, c: [{ t: 'text', v: url }] }, i + url.length);
        continue;
      }
    }
    i++;
  }
  if (i > from) out.push({ t: 'text', v: s.slice(from, i) });
  return out;
}

/** Where a mark closes: not at once, not after a space, on the same paragraph. */
function end(s: string, mark: string, open: number): number {
  if (open >= s.length || /\s/.test(s[open]!)) return -1;
  const limit = Math.min(s.length, open + maxMark);
  for (let i = open + 1; i < limit; i++) {
    if (s[i] === '\n' && s[i + 1] === '\n') return -1;
    if (!s.startsWith(mark, i) || /\s/.test(s[i - 1]!)) continue;
    if (mark === '*' && (s[i + 1] === '*' || s[i - 1] === '*')) continue;
    return i;
  }
  return -1;
}

function namedLink(s: string, i: number): { label: string; href: string; end: number } | undefined {
  const close = s.indexOf('](', i);
  if (close < i + 2 || close - i > 200) return undefined;
  const stop = s.indexOf(')', close);
  if (stop < 0 || stop - close > maxMark) return undefined;
  const label = s.slice(i + 1, close);
  if (/[[\]\n]/.test(label)) return undefined;
  const href = safe(s.slice(close + 2, stop));
  return href ? { label, href, end: stop + 1 } : undefined;
}

/** The address if it is one that a click may open; never javascript:, data: or the like. */
export function safe(url: string): string | undefined {
  try {
    const u = new URL(url);
    return (u.protocol === 'http:' || u.protocol === 'https:') && u.host ? u.href : undefined;
  } catch {
    return undefined;
  }
}

function at(re: RegExp, s: string, i: number): string | undefined {
  re.lastIndex = i;
  return re.exec(s)?.[0];
}

/** The text without its marks, for lists and quotes: one line. */
export function preview(text: string, limit = 200): string {
  return text
    .slice(0, limit * 2)
    .replace(/```[\w+#.-]*\n?/g, '')
    .replace(/\*\*|~~|`/g, '')
    .replace(/^> ?/gm, '')
    .replace(/\s+/g, ' ')
    .trim()
    .slice(0, limit);
}
