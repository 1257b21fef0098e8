/** REST with the sign-in cookie, in the shapes of openapi.yaml that the pages use. */
import { newKey, rest } from '@pipit/sdk';

export interface SignedInDevice {
  id: string;
  device?: string;
  created: number;
  expires: number;
  current?: boolean;
}

/** How one's own account is secured. */
export interface Secured {
  password: boolean;
  totp: boolean;
  recovery_codes: number;
  passkeys: Array<{ id: string; name: string; host: string; created: number; used?: number }>;
}

/** A provider of the organisation, and whether one's own account is linked with it. */
export interface Linked {
  id: string;
  name: string;
  path: string;
  linked: boolean;
  created?: number;
}

export interface Person {
  id: string;
  username: string;
  name: string;
  role: string;
  disabled: boolean;
  created: number;
}

export interface Invitation {
  id: string;
  role: string;
  username?: string;
  name?: string;
  expires: number;
  /** Only in the answer that makes it. */
  code?: string;
  path?: string;
}

export interface AuditEvent {
  seq: number;
  time: number;
  action: string;
  actor: { kind: string; id?: string; name?: string };
  object?: string;
  name?: string;
  result: string;
  addr?: string;
  detail?: Record<string, string>;
}

export interface Settings {
  staff_totp: boolean;
  audit_days: number;
  hosts: string[];
  /** Its owners look after the box. */
  keeper?: boolean;
  quota: { users: number; conversations: number; stored_bytes: number; connections: number };
  usage: { users: number; conversations: number; stored_bytes: number; connections: number };
}

/** One call. A POST carries a key, so that a second press makes nothing twice. */
export function call<T>(method: string, path: string, body?: unknown): Promise<T> {
  return rest<T>(location.origin, method, path, { body, ...(method === 'POST' ? { headers: { 'Idempotency-Key': newKey() } } : {}) });
}
