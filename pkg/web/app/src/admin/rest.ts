/** What the console asks of the server beside plain calls: versions, uploads and files. */
import { newKey, PipitError, rest } from '@pipit/sdk';

/** A thing and its version, which goes back with a change of it. */
export interface Tagged<T> {
  value: T;
  tag: string;
}

export function read<T>(path: string): Promise<Tagged<T>> {
  return ask<T>('GET', path);
}

/** Changes what `tag` is the version of; `newer` tells the error that says it is not the newest. */
export function change<T>(method: string, path: string, body: unknown, tag: string): Promise<Tagged<T>> {
  return ask<T>(method, path, body, tag ? { 'If-Match': tag } : {});
}

export const newer = (e: unknown) => e instanceof PipitError && e.kind === 'conflict' && e.field === 'If-Match';

async function ask<T>(method: string, path: string, body?: unknown, headers: Record<string, string> = {}): Promise<Tagged<T>> {
  let tag = '';
  const value = await rest<T>(location.origin, method, path, { body, headers, seen: (r) => (tag = r.headers.get('ETag') ?? '') });
  return { value, tag };
}

export function upload<T>(path: string, file: Blob): Promise<T> {
  return rest<T>(location.origin, 'POST', path, { raw: file, headers: { 'Content-Type': 'application/octet-stream', 'Idempotency-Key': newKey() } });
}

/** Gives the person a file that was made by a POST. */
export async function file(path: string, body: unknown, name: string): Promise<void> {
  const r = await fetch(location.origin + path, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body) });
  if (!r.ok) {
    const v = await r.json().catch(() => ({}));
    throw new PipitError(-32010, v.kind ?? 'internal', v.detail ?? r.statusText, v.field);
  }
  const a = document.createElement('a');
  a.href = URL.createObjectURL(await r.blob());
  a.download = name;
  a.click();
  setTimeout(() => URL.revokeObjectURL(a.href), 60_000);
}
