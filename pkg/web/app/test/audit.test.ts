import { expect, test } from 'vitest';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { en } from '../src/admin/i18n/en';
import { zh } from '../src/admin/i18n/zh';

const catalogues: Array<[string, Record<string, unknown>]> = [['en', en], ['zh', zh]];
const root = new URL('../../../../', import.meta.url).pathname;
/** Dotted words that are no action: names of files, and a setting. */
const other = /\.(html|csv|pdf|yaml|crt|key)$|^metrics\.listen$/;

/** The source of each package that writes to the audit log, without comments. */
const writers = readdirSync(join(root, 'pkg'), { recursive: true, withFileTypes: true })
  .filter((f) => f.isFile() && f.name.endsWith('.go') && !f.name.endsWith('_test.go'))
  .map((f) => ({ dir: f.parentPath, source: readFileSync(join(f.parentPath, f.name), 'utf8').replace(/^\s*\/\/.*$|\s\/\/ .*$/gm, '') }))
  .filter((f, _, all) => all.some((g) => g.dir === f.dir && (/\b(audit|auth)\.Event\{/.test(g.source) || /^package audit$/m.test(g.source))));
const found = (what: RegExp) => [...new Set(writers.flatMap((f) => [...f.source.matchAll(what)].map((m) => m[1]!)))].sort();
const actions = found(/"([a-z][a-z-]*(?:_[a-z]+)*\.[a-z_]+)"/g).filter((x) => !other.test(x));

test('each action of the audit log has its words, and nothing else has', () => {
  for (const one of ['session.create', 'user.create_many', 'quiet_hours.pass', 'audit.repeated', 'grant.reuse', 'provider.link', 'backup.made']) expect(actions).toContain(one);
  expect(actions.length).toBeGreaterThan(55);
  for (const [name, c] of catalogues) {
    expect(actions.filter((x) => typeof c[`action.${x}`] !== 'string'), name).toEqual([]);
    expect(Object.keys(c).filter((k) => /^action\..*[^.]$/.test(k) && !actions.includes(k.slice(7))), name).toEqual([]);
  }
});

test('the filter of the audit log offers each kind of action, in words', () => {
  const offered = [.../const actions = \[(.*)\]/.exec(readFileSync(new URL('../src/admin/Audit.svelte', import.meta.url), 'utf8'))![1]!.matchAll(/'([^']+)'/g)].map((m) => m[1]!);
  expect([...offered].sort()).toEqual([...new Set(actions.map((x) => x.replace(/\..*/, '.')))].sort());
  for (const [name, c] of catalogues) expect(offered.filter((x) => typeof c[`action.${x}`] !== 'string'), name).toEqual([]);
});

test('each detail of the audit log has its name', () => {
  const names = [...found(/\bnote\(ctx, "([a-z_]+)"/g), ...found(/\b[dD]etail\["([a-z_]+)"\]/g), ...found(/\b[dD]etail(?::| :=) +map\[string\]string\{([^}]*)\}/g).flatMap((m) => [...m.matchAll(/"([a-z_]+)": /g)].map((x) => x[1]!))];
  for (const one of ['with', 'on', 'changed', 'scope', 'result', 'archived', 'not_done']) expect(names).toContain(one);
  for (const [name, c] of catalogues) expect(names.filter((x) => typeof c[`detail.${x}`] !== 'string'), name).toEqual([]);
});
