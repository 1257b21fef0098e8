/** What the wizard proposes: people type names, the server wants ids. Both can be changed by hand. */

const plain = (s: string) => s.normalize('NFKD').replace(/\p{M}/gu, '').toLowerCase();

/** An id for an organisation: small letters, digits and dashes; "pipit" where a name has none of them. */
export function idOf(name: string): string {
  return plain(name).replace(/[^a-z0-9]+/g, '-').replace(/^-+|-+$/g, '').slice(0, 40).replace(/-+$/, '') || (name.trim() ? 'pipit' : '');
}

/** A user name for a person: the first word, or "admin" where a name has no Latin letters. */
export function usernameOf(name: string): string {
  return plain(name).split(/[^a-z0-9]+/).find(Boolean)?.slice(0, 32) ?? (name.trim() ? 'admin' : '');
}
