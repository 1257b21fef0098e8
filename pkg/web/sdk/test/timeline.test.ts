import { expect, test } from 'vitest';
import { Timeline, type Entry, type Item, type Page } from '../src/index.js';

/** A log with the states that a server would serve in its pages. */
class Log {
  readonly me = 'u_1';
  entries: Entry[] = [];
  pulls = 0;

  add(e: Partial<Entry>): Entry {
    const entry = { conversation: 'c', seq: this.entries.length + 1, time: this.entries.length, by: 'u_2', kind: 'message', ...e } as Entry;
    this.entries.push(entry);
    return entry;
  }

  /** The message as a page has it at this moment, worked out from the whole log. */
  state(seq: number): Entry {
    let m: Entry = { ...this.entries[seq - 1]! };
    const reactions = new Map<string, Set<string>>();
    for (const e of this.entries) {
      if (e.target !== seq) continue;
      if (e.kind === 'edit' && !m.recalled) m = { ...m, text: e.text, edited: e.time };
      if (e.kind === 'pin') m.pinned = e.on || undefined;
      if (e.kind === 'recall') {
        delete m.text;
        delete m.edited;
        delete m.pinned;
        m.recalled = true;
      }
      if (e.kind === 'reaction') {
        const set = reactions.get(e.emoji!) ?? new Set();
        reactions.set(e.emoji!, set);
        if (e.on) set.add(e.by);
        else set.delete(e.by);
      }
    }
    const list = [...reactions].filter(([, s]) => s.size > 0).map(([emoji, s]) => ({ emoji, count: s.size, mine: s.has(this.me) || undefined }));
    if (list.length > 0) m.reactions = list;
    return m;
  }

  async history(_: string, r: { after?: number; before?: number }, limit: number): Promise<Page> {
    this.pulls++;
    let page = this.entries.filter((e) => e.seq > (r.after ?? 0) && e.seq < (r.before ?? Infinity));
    page = r.after !== undefined ? page.slice(0, limit) : page.slice(-limit);
    const reply = JSON.parse(JSON.stringify({ entries: page.map((e) => (e.target ? e : this.state(e.seq))), head: this.entries.length }));
    await Promise.resolve(); // events may come before the reply is read
    return reply;
  }
}

const strip = (items: readonly Item[]) =>
  items.map(({ asOf: _, reactions, ...e }) => JSON.parse(JSON.stringify({ ...e, ...(reactions?.length ? { reactions: [...reactions].sort((a, b) => (a.emoji < b.emoji ? -1 : 1)) } : {}) })));

function expectCurrent(t: Timeline, log: Log) {
  const want = log.entries
    .filter((e) => !e.target && e.seq >= t.low && e.seq <= t.high)
    .map((e) => ({ ...log.state(e.seq), asOf: 0 }) as Item);
  expect(strip(t.items)).toEqual(strip(want));
}

test('scrolls to the first message and back without a hole or a double, and stays bounded', async () => {
  const log = new Log();
  for (let i = 0; i < 2000; i++) log.add({ text: `${i}` });
  const t = new Timeline(log, 'c', 2000);
  await t.toNewest();
  let most = 0;
  while (!t.atStart) {
    await t.older();
    most = Math.max(most, t.items.length);
    expectCurrent(t, log);
  }
  expect(t.low).toBe(1);
  expect(t.live).toBe(false);
  expect(most).toBeLessThanOrEqual(420);
  while (!t.live) {
    await t.newer();
    expectCurrent(t, log);
  }
  expect(t.high).toBe(2000);
});

test('a random history of events, lost events, pages and reconnections always shows what the log says', async () => {
  let seed = 7;
  const random = (n: number) => (seed = (seed * 48271) % 2147483647) % n;
  for (let round = 0; round < 15; round++) {
    const log = new Log();
    for (let i = 0; i < 100 + random(400); i++) log.add({ text: `${i}` });
    const t = new Timeline(log, 'c', log.entries.length);
    const opening = t.toNewest();
    for (let step = 0; step < 120; step++) {
      let e: Entry;
      const target = 1 + random(log.entries.length);
      const able = !log.entries[target - 1]!.target && !log.state(target).recalled;
      switch (able ? random(6) : 0) {
        case 1:
          e = log.add({ kind: 'edit', target, text: `edit ${step}` });
          break;
        case 2:
          e = log.add({ kind: 'recall', target });
          break;
        case 3: {
          const by = `u_${1 + random(2)}`;
          const emoji = '👍🎉'.slice(0, 2);
          const mine = log.entries.filter((x) => x.kind === 'reaction' && x.target === target && x.by === by).at(-1);
          e = log.add({ kind: 'reaction', target, emoji, by, on: !mine?.on });
          break;
        }
        case 4:
          e = log.add({ kind: 'pin', target, on: !log.state(target).pinned });
          break;
        default:
          e = log.add({ text: `new ${step}` });
      }
      if (random(10) > 0) t.entry(e);
      const what = random(12);
      if (what === 0) void t.older();
      if (what === 1) void t.newer();
      if (what === 2) void t.toMessage(target);
      if (what === 3) await Promise.resolve();
      if (what === 4) await t.catchUp(log.entries.length);
    }
    await opening;
    await t.catchUp(log.entries.length);
    expectCurrent(t, log);
    while (!t.live) await t.newer();
    await t.catchUp(log.entries.length);
    expectCurrent(t, log);
  }
});

test('a message is shown with what is before and after it, in one change', async () => {
  const log = new Log();
  for (let i = 0; i < 500; i++) log.add({ text: `${i}` });
  const seen: Array<[low: number, high: number, items: number]> = [];
  const t: Timeline = new Timeline(log, 'c', 500, () => seen.push([t.low, t.high, t.items.length]));
  expect(await t.toMessage(250)).toBe(true);
  expect(seen).toEqual([[221, 280, 60]]);
  expect(await t.toMessage(5)).toBe(true);
  expect(seen.slice(1)).toEqual([[1, 35, 35]]);
  expectCurrent(t, log);
});

test('who goes to a message for the first time stays there when the connection catches up, and it is asked for once', async () => {
  const log = new Log();
  for (let i = 0; i < 200; i++) log.add({ text: `${i}` });
  const t = new Timeline(log, 'c', 200);
  await Promise.all([t.toMessage(40), t.toMessage(40), t.catchUp(200)]);
  expect([t.low, t.high]).toEqual([11, 70]);
  expect(log.pulls).toBe(2);
});

test('a saved window is brought up to date, changes of old messages too', async () => {
  const log = new Log();
  for (let i = 0; i < 100; i++) log.add({ text: `${i}` });
  const before = new Timeline(log, 'c', 100);
  await before.toNewest();
  const saved = before.save(30)!;
  expect(saved.items.length).toBe(30);
  log.add({ kind: 'edit', target: 90, text: 'changed' });
  log.add({ kind: 'recall', target: 91 });
  log.add({ kind: 'reaction', target: 92, emoji: '👍', on: true });
  log.add({ text: 'new' });
  const after = new Timeline(log, 'c', 0);
  after.restore(JSON.parse(JSON.stringify(saved)));
  await after.catchUp(log.entries.length);
  expectCurrent(after, log);
  expect(after.low).toBe(71);
});

test('a long absence costs one page, not the whole hole', async () => {
  const log = new Log();
  for (let i = 0; i < 100; i++) log.add({ text: `${i}` });
  const t = new Timeline(log, 'c', 100);
  await t.toNewest();
  for (let i = 0; i < 20_000; i++) log.add({ text: `${i}` });
  log.pulls = 0;
  await t.catchUp(log.entries.length);
  expect(log.pulls).toBe(1);
  expect(t.live).toBe(true);
  expectCurrent(t, log);
});
