/**
 * The envelope and the shapes of the protocol (PROTOCOL 2): pure functions
 * between text and values. What the server may send is data in protocol.gen.ts;
 * this file walks it. Unknown members are dropped, an unknown kind, role or
 * state becomes '', so that the rest of a client meets only what it knows.
 */
import { enums, events, results, retries, shapes, type ErrorKind, type Events, type Methods, type Notification, type Retry } from './protocol.gen.js';

/** An error reply. `message` is the server's text for people. */
export class PipitError extends Error {
  override name = 'PipitError';
  /** The whole problem document of a REST answer: a sign-in's `challenge` is there. */
  problem?: Record<string, unknown>;
  constructor(
    readonly code: number,
    /** '' for the codes of JSON-RPC itself: the request was not as the protocol says. */
    readonly kind: ErrorKind | '',
    message: string,
    readonly field?: string,
    readonly limit?: number,
    readonly retryAfterMs?: number,
    readonly ref?: string,
    /** A word for programs beside the kind (PROTOCOL 10.11): quiet_hours, archived. */
    readonly reason?: string,
  ) {
    super(message);
  }

  /** What a client may do with the same request (PROTOCOL 2.3). */
  get retry(): Retry {
    return this.kind === '' ? 'no' : retries[this.kind];
  }
}

/** The connection ended before the reply; the request may or may not have been carried out. */
export class ConnectionLost extends Error {
  override name = 'ConnectionLost';
}

/** What arrived in one message. `value` is raw: the asker knows its shape. */
export type ServerMessage =
  | { type: 'reply'; id: number | string | null; value: unknown }
  | { type: 'error'; id: number | string | null; error: PipitError }
  | { type: 'event'; method: string; value: unknown }
  | { type: 'invalid' };

const invalid: ServerMessage = { type: 'invalid' };

/** Reads the envelope of one message from the server. */
export function decodeMessage(text: string): ServerMessage {
  let m: unknown;
  try {
    m = JSON.parse(text);
  } catch {
    return invalid;
  }
  if (!isObject(m) || m.jsonrpc !== '2.0') return invalid;
  const hasId = 'id' in m;
  const isReply = 'result' in m || 'error' in m;
  if ('method' in m) {
    if (isReply || hasId || typeof m.method !== 'string') return invalid;
    return { type: 'event', method: m.method, value: m.params };
  }
  if (!isReply || !hasId) return invalid;
  const id = m.id as number | string | null;
  if (!('error' in m)) return { type: 'reply', id, value: m.result };
  const error = decodeError(m.error);
  return error ? { type: 'error', id, error } : invalid;
}

function decodeError(e: unknown): PipitError | undefined {
  if (!isObject(e) || typeof e.code !== 'number' || typeof e.message !== 'string') return undefined;
  const data = isObject(e.data) ? e.data : {};
  // Codes of JSON-RPC itself have no kind; a kind from the future counts as internal.
  const ofPipit = e.code > -32600 || e.code < -32700;
  const kind = ofPipit ? (typeof data.kind === 'string' && data.kind in retries ? (data.kind as ErrorKind) : 'internal') : '';
  const number = (v: unknown) => (typeof v === 'number' && v > 0 ? v : undefined);
  const string = (v: unknown) => (typeof v === 'string' ? v : undefined);
  return new PipitError(e.code, kind, e.message, string(data.field), number(data.limit), number(data.retry_after_ms), string(data.ref), string(data.reason));
}

/** The text of a request; without an id it is a notification. */
export function encodeRequest(id: number | bigint | undefined, method: string, params?: object): string {
  const head = id === undefined ? '{"jsonrpc":"2.0",' : `{"jsonrpc":"2.0","id":${id},`;
  const body = params && Object.keys(params).length > 0 ? `,"params":${JSON.stringify(params)}` : '';
  return `${head}"method":${JSON.stringify(method)}${body}}`;
}

/** The result of `method` from the raw value of its reply; undefined if it has not that shape. */
export function decodeResult<M extends keyof Methods>(method: M, value: unknown): Methods[M]['result'] | undefined {
  return decodeShape(results[method], value) as Methods[M]['result'] | undefined;
}

/** The params of an event; undefined if this version does not know it, or it has not its shape. */
export function decodeEvent<E extends keyof Events>(method: E, value: unknown): Events[E] | undefined {
  return Object.hasOwn(events, method) ? (decodeShape(events[method], value) as Events[E] | undefined) : undefined;
}

/** Walks one shape of the table. */
export function decodeShape(shape: string, value: unknown): object | undefined {
  const members = shapes[shape];
  if (!members || !isObject(value)) return undefined;
  const out: Record<string, unknown> = {};
  for (const name in members) {
    let type = members[name]!;
    const optional = type.endsWith('?');
    if (optional) type = type.slice(0, -1);
    if (!Object.hasOwn(value, name)) {
      if (!optional) return undefined;
      continue;
    }
    const v = decodeType(type, value[name]);
    if (v === undefined) return undefined;
    out[name] = v;
  }
  return out;
}

function decodeType(type: string, v: unknown): unknown {
  if (type.startsWith('[')) {
    if (!Array.isArray(v)) return undefined;
    const inner = type.slice(1, -1);
    const list = v.map((one) => decodeType(inner, one));
    return list.includes(undefined) ? undefined : list;
  }
  switch (type) {
    case 'string':
      return typeof v === 'string' ? v : undefined;
    case 'int':
      return typeof v === 'number' ? v : undefined;
    case 'bool':
      return typeof v === 'boolean' ? v : undefined;
    case 'presence_row': {
      if (!Array.isArray(v) || typeof v[0] !== 'string' || typeof v[1] !== 'string') return undefined;
      return [v[0], enums.PresenceState!.includes(v[1]) ? v[1] : 'offline', typeof v[2] === 'number' ? v[2] : 0];
    }
  }
  const names = enums[type];
  if (names) return typeof v === 'string' ? (names.includes(v) ? v : '') : undefined;
  return decodeShape(type, v);
}

function isObject(v: unknown): v is Record<string, unknown> {
  return typeof v === 'object' && v !== null && !Array.isArray(v);
}

/** What to do after a connection ended (PROTOCOL 3.9). */
export type CloseAction = { do: 'backoff' } | { do: 'reconnect'; maxDelayMs: number } | { do: 'sign-in' } | { do: 'stop' };

const dayMs = 24 * 60 * 60 * 1000;

/** Reads a close code and its reason; a connection that ended without a close frame has code 1006. */
export function closeAction(code: number, reason: string): CloseAction {
  if ([1002, 1003, 1007, 1009].includes(code) || (code >= 4200 && code <= 4299)) return { do: 'stop' };
  if (code >= 4100 && code <= 4199) return { do: 'sign-in' };
  if ([1001, 1006, 1011, 1012, 1013].includes(code) || (code >= 4000 && code <= 4099)) {
    const n = /^retry_ms=([0-9]+)$/.exec(reason);
    if (n) return { do: 'reconnect', maxDelayMs: Math.min(Number(n[1]), dayMs) };
  }
  return { do: 'backoff' };
}

/** Notifications are checked at compile time against the table. */
export type NotificationParams<N extends Notification> = Methods[N]['params'];
