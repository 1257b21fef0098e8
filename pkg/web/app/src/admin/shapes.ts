/** The shapes of openapi.yaml that the console uses. */
export interface Condition {
  code: string;
  severity: 'watch' | 'act';
  title: string;
  text: string;
  hint: string;
  since: number;
  figures?: Record<string, number>;
}

export interface Box {
  version: string;
  uptime_s: number;
  connections: number;
  people: number;
  users: number;
  tenants: number;
  messages: number;
  messages_per_minute: number;
  commit_p99_us: number;
  rss_bytes: number;
  memory_limit_bytes: number;
  store: { state: string; bytes: number; free_bytes: number; damaged: number };
  conditions: Condition[];
  machine: {
    host: string;
    model?: string;
    uptime_s: number;
    load: number;
    memory_bytes: number;
    memory_available_bytes: number;
    disk_bytes: number;
    disk_free_bytes: number;
    celsius?: number;
    throttling?: { under_voltage: boolean; slowed: boolean; under_voltage_before: boolean; slowed_before: boolean };
    card?: { device: string; name?: string; written_bytes?: number; life_used_percent?: number; reserve?: string };
  };
}

export interface Sample {
  at: number;
  people: number;
  stored: number;
  store_p99_us: number;
  deliver_us: number;
  rss_bytes: number;
  celsius?: number;
}

export interface Backups {
  key: boolean;
  running: boolean;
  tried?: number;
  verified?: number;
  error?: string;
  places: Array<{ place: string; at?: number; records: number; bytes: number; error?: string; why?: string }>;
  kept: Array<{ name: string; at: number; bytes: number }>;
}

export interface Tenant {
  id: string;
  name: string;
  suspended: boolean;
  created: number;
  /** Seconds of running time until it is erased. */
  erased_in?: number;
}

export interface Quota {
  users: number;
  conversations: number;
  stored_bytes: number;
  sends_per_minute: number;
  connections: number;
}

export interface TenantDetail extends Tenant {
  settings: { hosts: string[]; quota: Quota; usage: { users: number; conversations: number; stored_bytes: number; connections: number }; keeper?: boolean };
}

export interface Policy {
  preset: string;
  settings: Array<{ name: string; value: string; default: string; allowed: string }>;
}

export interface Class {
  id: string;
  name: string;
  term?: string;
  ends?: string;
  teachers: string[];
  students: string[];
  archived: boolean;
}

/** A sentence about a roster, and what it was made of. */
export interface Said {
  text: string;
  format: string;
  args?: string[];
}

export interface RosterReport {
  format: string;
  digest: string;
  people: number;
  classes: number;
  counts: Record<string, number>;
  changes: Array<{ what: string; of: string; key: string; name?: string; said?: Said[] }>;
  wrong: number;
  notes: number;
  problems: Array<Said & { file: string; line?: number; note?: boolean }>;
}

export interface RosterStatus {
  state: 'idle' | 'preparing' | 'importing' | 'waiting';
  done: number;
  total: number;
  why?: string;
  last?: { began: number; ended: number; counts: Record<string, number>; said?: Said[] };
}

export interface Provider {
  id: string;
  name: string;
  issuer: string;
  client_id: string;
  secret: boolean;
  scopes: string[];
  domains: string[];
  create: boolean;
  link: string;
  username: string;
  role: string;
  role_claim: string;
  roles: Record<string, string>;
  class_claim: string;
  classes: Record<string, string>;
  callback: string;
}

export interface Program {
  id: string;
  name: string;
  kind: 'web' | 'browser' | 'native' | 'device';
  redirect_uris: string[];
  logout_uris: string[];
  scopes: string[];
  trusted: boolean;
  created: number;
  secret?: string;
}

export interface Token {
  id: string;
  name: string;
  scopes: string[];
  user: string;
  created: number;
  expires: number;
  token?: string;
}
