import { expect, test } from 'vitest';
import { readdirSync, readFileSync } from 'node:fs';
import { refused } from '../src/i18n/refused.zh';

// The packages whose refusals reach a person in the client, through REST or the protocol.
const packages = ['access', 'api', 'app', 'auth', 'auth/oidcop', 'auth/oidcrp', 'cards', 'chat', 'directory', 'roster'];
const kinds: Record<string, string> = { Invalid: 'invalid', Unauthenticated: 'unauthenticated', Forbidden: 'forbidden', NotFound: 'not_found', Exists: 'exists', Conflict: 'conflict', TooLarge: 'too_large' };
/** Fields of what the client always fills in by itself, or never asks for. */
const ours = /^\w+ (key|Idempotency-Key|cursor|before|limit|client_id|alg|introspect)$/;
/** What a program meets, or the log only. */
const programs = /^(oidcop: |wrong code$|the person did not agree$|an administrator's account|no verified address|nobody here is linked|Only the box itself|Programs can't|This request does not come|Sign in first|That can't be done|The body must be|The refresh token|There is no such (client|token|sign-in|organisation)|This program may|There is no such invitation)/;

/** The field that an error names; '?' for one that only the caller knows. */
function named(source: string): string | undefined {
  const field = /\.OnField\(([^)]+)\)/.exec(source)?.[1];
  if (!field) return undefined;
  return { ChallengeTOTP: 'totp', ChallengeNewPassword: 'new_password' }[field] ?? /^"(.+)"$/.exec(field)?.[1] ?? '?';
}

interface Refusal {
  at: string;
  kind: string;
  text: string;
  field?: string;
}

function refusals(): Refusal[] {
  return packages.flatMap((p) => {
    const dir = new URL(`../../../${p}/`, import.meta.url);
    return readdirSync(dir).filter((f) => f.endsWith('.go') && !f.endsWith('_test.go')).flatMap((f) => {
      const source = readFileSync(new URL(f, dir), 'utf8');
      const at = `${p}/${f}`;
      return [
        ...[...source.matchAll(/im\.E\(im\.(\w+), "((?:[^"\\]|\\.)*)"[^\n]*/g)].map((m) => ({ at, kind: m[1]!, text: m[2]!, field: named(m[0]) })),
        ...[...source.matchAll(/im\.Error\{[^{}]*\}/g)].map((m) => ({ at, kind: /Kind: +im\.(\w+)/.exec(m[0])?.[1] ?? '', text: /Message: +"((?:[^"\\]|\\.)*)"/.exec(m[0])?.[1] ?? '', field: /Field: +"([^"]+)"/.exec(m[0])?.[1] })),
      ];
    });
  }).filter((r) => kinds[r.kind] && r.text).map((r) => ({ ...r, kind: kinds[r.kind]! }));
}

test('whatever the server refuses has its words in Chinese, and nothing else has', () => {
  const all = refusals();
  expect(all.length).toBeGreaterThan(120);
  const missing = all.filter((r) => !programs.test(r.text) && !ours.test(`${r.kind} ${r.field}`))
    // Of a thing that is gone the kind says enough; a sentence with a figure or a name in it can't be looked up.
    .filter((r) => !refused[r.text] && !refused[`${r.kind} ${r.field}`] && !(refused[r.kind] && (r.kind === 'not_found' || r.field === '?' || (!r.field && r.text.includes('%')))));
  expect(missing.map((r) => `${r.at}: ${r.kind} ${r.field ?? ''}: ${r.text}`)).toEqual([]);

  const said = new Set(all.map((r) => r.text));
  expect(Object.keys(refused).filter((k) => / .* .* /.test(k) && !said.has(k))).toEqual([]);
});

test('the Chinese of what is refused holds no English sentence, and full-width punctuation', () => {
  for (const [key, text] of Object.entries(refused)) {
    expect(text.replace('sudo pipit backup key', ''), key).not.toMatch(/[a-z]+ [a-z]+ [a-z]+/i);
    expect(text, key).not.toMatch(/\p{Script=Han}[,;:?!]|[,;:?!]\p{Script=Han}|\p{Script=Han}[0-9A-Za-z]|[0-9A-Za-z]\p{Script=Han}/u);
  }
});
