/** The few REST calls that a chat client needs (PROTOCOL 9). */
import type { ErrorKind, Tenant, User } from './protocol.gen.js';
import { PipitError } from './wire.js';

export interface SignedIn {
  /** Absent if a cookie was asked for. */
  token?: string;
  /** UTC milliseconds. */
  expires: number;
  user: User;
  tenant: Tenant;
  /** Of a second step that was set up with this sign-in; they are shown this once. */
  recovery_codes?: string[];
}

/**
 * Signs in with a password. Where one thing more is needed, the error's `problem.challenge` says what (PROTOCOL 9.2):
 * the same call again with `totp` or `new_password` answers it. The tenant may be left out where the server has one, or the host name says it.
 */
export function signIn(url: string, who: { tenant?: string; username: string; password: string; device?: string; cookie?: boolean; keep?: boolean; totp?: string; new_password?: string }): Promise<SignedIn> {
  return rest<SignedIn>(url, 'POST', '/v1/sessions', { body: who });
}

/** Ends the sign-in that the token belongs to; its open sockets close with 4101. */
export async function signOut(url: string, token?: string): Promise<void> {
  await rest(url, 'DELETE', '/v1/sessions/current', { token });
}

/** One REST call; a problem document (RFC 9457) becomes a PipitError. */
export async function rest<T>(url: string, method: string, path: string, o: { token?: string; body?: unknown; /** A body that goes as it is. */ raw?: Blob; headers?: Record<string, string>; /** Sees the answer's headers. */ seen?: (r: Response) => void } = {}): Promise<T> {
  const r = await fetch(url.replace(/\/$/, '') + path, {
    method,
    headers: {
      Accept: 'application/json',
      ...(o.body === undefined ? {} : { 'Content-Type': 'application/json' }),
      ...(o.token ? { Authorization: `Bearer ${o.token}` } : {}),
      ...o.headers,
    },
    ...(o.raw ? { body: o.raw } : o.body === undefined ? {} : { body: JSON.stringify(o.body) }),
  });
  o.seen?.(r);
  const text = await r.text();
  let v: any;
  try {
    v = text ? JSON.parse(text) : undefined;
  } catch {
    v = undefined; // a proxy's page
  }
  if (r.ok) return v as T;
  const kind = (v?.kind ?? (r.status >= 500 ? 'unavailable' : 'internal')) as ErrorKind;
  const error = new PipitError(-32010, kind, v?.detail ?? v?.title ?? r.statusText, v?.field, v?.limit, v?.retry_after_ms, v?.ref, v?.reason);
  if (v) error.problem = v;
  throw error;
}
