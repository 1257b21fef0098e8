import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { closeAction, decodeEvent, decodeMessage, decodeResult, encodeRequest, type Events, type Methods } from '../src/index.js';
import { events, results, shapes } from '../src/protocol.gen.js';

/** The same files that the server's own tests read (pkg/wire/testdata/vectors/README.md). */
const vectors = (name: string) => JSON.parse(readFileSync(new URL(`../../../wire/testdata/vectors/${name}.json`, import.meta.url), 'utf8')).cases as any[];
const fill = (v: any, text: string) => (v.fill ? text.replaceAll('@@', v.fill.of.repeat(v.fill.times)) : text);

describe('what a server sends', () => {
  const met = new Set<string>();
  for (const v of vectors('server_messages')) {
    test(v.name, () => {
      const m = decodeMessage(fill(v, v.message));
      expect(m.type).toBe(v.type);
      if (m.type === 'reply' || m.type === 'error') expect(m.id).toEqual(v.id);
      if (m.type === 'error') {
        const { code, kind, message, field, limit, retryAfterMs, ref, reason } = m.error;
        const got = { code, kind: kind || undefined, message, field, limit, retry_after_ms: retryAfterMs, ref, reason };
        expect(JSON.parse(JSON.stringify(got))).toEqual(v.error);
        expect(m.error.retry).toBe(v.retry);
      }
      if (m.type === 'event') {
        expect(m.method).toBe(v.method);
        const got = decodeEvent(m.method as keyof Events, m.value);
        if (v.shape === 'unknown') return expect(got).toBeUndefined();
        met.add(v.shape);
        expect(events[m.method as keyof Events]).toBe(v.shape);
        expect(got).toEqual(v.value);
      }
      if (m.type === 'reply') {
        met.add(v.shape);
        const method = (Object.keys(results) as Array<keyof Methods>).find((x) => results[x] === v.shape);
        expect(method, `no method has the shape ${v.shape}`).toBeDefined();
        expect(decodeResult(method!, m.value)).toEqual(v.value);
      }
    });
  }
  test('every shape of a result or an event is met', () => {
    const used = new Set([...Object.values(results), ...Object.values(events)]);
    expect([...used].filter((s) => !met.has(s))).toEqual([]);
    for (const s of used) expect(shapes).toHaveProperty(s);
  });
});

describe('what a client sends', () => {
  const methods = new Set<string>();
  for (const v of vectors('client_requests')) {
    test(v.name ?? v.method, () => {
      methods.add(v.method);
      // A number beyond what a double holds would arrive here rounded already.
      const id = v.id === undefined ? undefined : BigInt(/"id":(\d+)/.exec(v.message)![1]!);
      expect(JSON.parse(encodeRequest(id, v.method, v.params))).toEqual(JSON.parse(v.message));
    });
  }
  test('the table has the methods of the vectors and no other', () => {
    const all = new Set(vectors('requests').map((v) => v.method).filter(Boolean));
    expect([...Object.keys(results)].sort()).toEqual([...all].sort());
    expect([...methods].sort()).toEqual([...all].sort());
  });
});

describe('how a connection ended', () => {
  for (const v of vectors('close')) {
    test(`${v.code} ${v.reason}`, () => {
      const a = closeAction(v.code, v.reason);
      expect(a.do).toBe(v.action);
      expect(a.do === 'reconnect' ? a.maxDelayMs : undefined).toBe(v.max_delay_ms);
    });
  }
});
