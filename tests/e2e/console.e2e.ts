import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Locator, Page } from 'playwright-core';
import { accessible, clean, desktop, phone, shut, signedIn } from './browser';
import { hostile, inert, keeper, visit } from './console';
import { corpus, cut } from './corpus';
import type { Server } from './server';

const long = '实验小学五年级甲班家长委员会春游筹备与后勤保障协调工作小组（第二学期）';

let server: Server;
beforeAll(async () => {
  server = await keeper({ username: 'wangmin', name: '王敏老师', role: 'staff' }, { username: 'bob', name: 'Bob Ito' }, { username: 'mal', name: hostile });
}, 120_000);
afterAll(async () => {
  await shut();
  await server?.close();
});

const pages = ['people', 'classes', 'roster', 'invitations', 'rules', 'signin', 'tokens', 'settings', 'audit', 'box', 'backups', 'tenants'] as const;
const go = (page: Page, to: string) => visit(server, page, to);

test('a roster: what would change, bad rows by line, then it is done', async () => {
  const page = await signedIn(server, 'linxiao');
  await go(page, 'roster');
  const file = (text: string) => ({ name: 'list.csv', mimeType: 'text/csv', buffer: Buffer.from(text) });
  const input = page.locator('input[type=file]');
  await input.setInputFiles(file(`class,role,name,username\n5A,teacher,Tina Oak,tina\n5A,student,"${hostile}",sam\n5A,king,Bad Role,bad\n`));
  await page.getByText('1 row is not right').waitFor();
  await page.getByRole('cell', { name: 'list.csv:4' }).waitFor();
  expect(await page.getByRole('button', { name: 'Import', exact: true }).isDisabled()).toBe(true);
  await accessible(page, 'roster with a bad row');
  await input.setInputFiles(file(`class,role,name,username\n5A,teacher,Tina Oak,tina\n5A,student,"${hostile}",sam\n${long},student,长名字的同学,chang\n`));
  await page.getByText('People added').waitFor();
  await page.getByText('Classes added').waitFor();
  await page.getByText(hostile).first().waitFor();
  await accessible(page, 'diff');
  // Nothing has changed before one says so.
  expect(server.tool(['user', 'list', '--tenant', 'oakhill'])).not.toContain('tina');
  await page.getByRole('button', { name: 'Import', exact: true }).click();
  await page.getByText('The roster is imported.').waitFor();
  await page.locator('.list').getByText('list.csv').first().waitFor();
  expect(server.tool(['user', 'list', '--tenant', 'oakhill'])).toContain('tina');
  const [cards] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: 'Print login cards' }).click()]);
  expect(cards.suggestedFilename()).toBe('cards.html');
  await inert(page);

  // Classes came with it; one is renamed, somebody joins, and it ends.
  await go(page, 'classes');
  await page.getByRole('button', { name: /^5A/ }).click();
  await page.getByRole('dialog').getByText('Tina Oak').waitFor();
  await accessible(page, 'class');
  await page.getByRole('button', { name: '+ Add a student' }).click();
  await page.getByRole('searchbox', { name: 'Add a student' }).fill('bob');
  await page.getByRole('button', { name: /Bob Ito/ }).click();
  await page.getByLabel('Name', { exact: true }).fill('5A ' + hostile);
  await page.getByRole('button', { name: 'Save' }).click();
  await page.getByRole('button', { name: /2 students/ }).click();
  await page.getByRole('button', { name: 'End the class' }).click();
  await page.getByRole('dialog').waitFor({ state: 'detached' });
  await page.getByLabel(/Ended ones/).check();
  await page.getByRole('button', { name: /^5A/ }).waitFor();
  await inert(page);
  clean(page);
  await page.context().close();
});

test('rules: one by one, what differs, back to the preset, and two people at once', async () => {
  const page = await signedIn(server, 'linxiao');
  await go(page, 'rules');
  await page.getByRole('button', { name: /^School/ }).click();
  await page.getByRole('button', { name: 'Use this preset' }).click();
  await page.getByText('All rules are those of the preset.').waitFor();
  await page.locator('summary', { hasText: 'Member' }).first().click();
  await page.getByRole('radiogroup', { name: 'Who may start a conversation with whom: Member → Member' }).getByText('yes').click();
  await page.getByRole('checkbox', { name: 'Quiet hours: Member' }).check();
  await page.getByText('2 changes are not saved').waitFor();
  // The hours are fields like the one of the time zone, and their list begins where its panel does.
  const hours = page.getByRole('region', { name: 'Quiet hours', exact: true });
  const looks = (field: Locator) => field.evaluate((e) => (({ minHeight, borderTopColor, borderTopWidth, borderTopLeftRadius, backgroundColor, fontFamily, appearance }) => ({ minHeight, borderTopColor, borderTopWidth, borderTopLeftRadius, backgroundColor, fontFamily, appearance: appearance === 'auto' && e.getAttribute('type') === null ? 'none' : appearance }))(getComputedStyle(e)));
  expect(await looks(hours.locator('input[type=time]').first())).toEqual(await looks(hours.locator('.field input')));
  expect(await hours.evaluate((panel) => { const [p, li] = [panel, panel.querySelector('li')!].map((e) => e.getBoundingClientRect()); return [li!.top - p!.top < 30, li!.left - p!.left < 30]; })).toEqual([true, true]);
  // Meanwhile somebody at the box changes another one.
  server.tool(['policy', 'set', '--tenant', 'oakhill', 'recall=erase']);
  await page.getByRole('button', { name: 'Save' }).click();
  await page.getByText('Somebody else changed this meanwhile.').waitFor();
  await page.getByText('What becomes of a recalled message: It is wiped from the box at once').waitFor();
  await accessible(page, 'conflict');
  await page.getByRole('button', { name: 'Save' }).click();
  await page.getByText('3 rules differ from the preset').waitFor();
  const policy = server.tool(['policy', 'show', '--tenant', 'oakhill']);
  expect(policy).toMatch(/direct\.member\.member\s+yes/);
  expect(policy).toMatch(/quiet\.member\s+22:00-06:00/);
  await page.getByRole('button', { name: /^Back to the preset.*Member → Member/ }).click();
  await page.getByRole('button', { name: 'Save' }).click();
  await page.getByText('2 rules differ from the preset').waitFor();
  clean(page);
  await page.context().close();
});

test('an invitation says until which day it can be used', async () => {
  const page = await signedIn(server, 'linxiao');
  await go(page, 'invitations');
  await page.getByRole('button', { name: 'Invite somebody' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByLabel('Name').fill(`Late ${hostile}`);
  await dialog.getByRole('button', { name: 'Invite somebody' }).click();
  await dialog.getByText(/Whoever has this code may join once, until \d{1,2} \w{3,4} \d{4}\.$/).waitFor();
  await accessible(page, 'invitation');
  await page.keyboard.press('Escape');
  const row = page.locator('li', { hasText: 'Late' });
  await row.getByText(/until \d{1,2} \w{3,4} \d{4}$/).waitFor();
  await row.getByRole('button', { name: 'Take back' }).click();
  await expect.poll(() => row.count()).toBe(0);
  clean(page);
  await page.context().close();
});

test('sign-in, programs and tokens: secrets are shown once', async () => {
  const page = await signedIn(server, 'linxiao');
  await go(page, 'signin');
  await page.getByRole('button', { name: 'Add a provider' }).click();
  await page.getByLabel(/^Name/).fill(`Login ${hostile}`);
  await page.getByLabel(/^Short name/).fill('login');
  await page.getByLabel(/^Address of the provider/).fill('http://127.0.0.1:9/nobody');
  await page.getByLabel(/^Client ID/).fill('pipit');
  await page.getByLabel(/^Client secret/).fill('sEcret-of-the-provider');
  await accessible(page, 'provider');
  await page.getByRole('button', { name: 'Save' }).click();
  await page.getByText('127.0.0.1:9').waitFor();
  await page.getByRole('button', { name: /^Test/ }).click();
  await page.getByText('does not answer as a provider').waitFor();
  await page.getByRole('button', { name: /^Edit/ }).click();
  expect(await page.getByLabel(/^Client secret/).inputValue()).toBe('');
  await page.keyboard.press('Escape');
  expect(await page.content()).not.toContain('sEcret-of');
  await page.getByRole('button', { name: 'Add a program' }).click();
  await page.getByLabel(/^Name/).fill('Timetable');
  await page.getByLabel(/^Redirect addresses/).fill('https://timetable.example/cb');
  await page.getByRole('button', { name: 'Add a program' }).last().click();
  const secret = (await page.locator('dialog .code').innerText()).trim();
  expect(secret.length).toBeGreaterThan(20);
  await page.getByRole('button', { name: 'Done' }).click();
  await page.getByText('https://timetable.example/cb').waitFor();
  expect(await page.content()).not.toContain(secret);
  await inert(page);
  await page.getByRole('button', { name: /^Remove.*Login/ }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Remove' }).click();
  await page.getByText('People sign in with a user name and password of this box only.').waitFor();

  await go(page, 'tokens');
  await page.getByRole('button', { name: 'Make a token' }).click();
  await page.getByLabel(/^Name/).fill(hostile);
  await page.getByLabel(/Read people/).check();
  await page.getByRole('dialog').getByRole('button', { name: 'Make a token' }).click();
  const token = (await page.locator('dialog .code').innerText()).trim();
  expect(token).toMatch(/^pa_oakhill_/);
  await page.getByRole('button', { name: 'Done' }).click();
  await page.getByRole('button', { name: /^End/ }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'End' }).click();
  await page.getByText('No program has a token.').waitFor();
  await inert(page);

  // The log has all of it, by what and by result.
  await go(page, 'audit');
  await page.getByRole('cell', { name: /^End an API token/ }).first().waitFor();
  expect(await page.locator('tbody').innerText()).not.toMatch(/\w\.(create|delete|update)/); // the codes are in the tip and in the file
  await page.getByLabel('What').selectOption('token.');
  await expect.poll(() => page.locator('tbody tr').count()).toBe(2);
  await page.getByLabel('Result').selectOption('refused');
  await page.getByText('Nothing found.').waitFor();
  await page.getByRole('button', { name: 'Clear' }).click();
  const [csv] = await Promise.all([page.waitForEvent('download'), page.getByRole('link', { name: 'Save as CSV' }).click()]);
  expect(csv.suggestedFilename()).toBe('audit.csv');
  await inert(page);
  clean(page);
  await page.context().close();
});

// Each size, scheme and language once: what axe finds goes by the scheme, what is too wide by size and language.
for (const [size, options, scheme, locale] of [['desktop', desktop, 'light', 'en-GB'], ['phone', phone, 'dark', 'zh-CN']] as const)
  test(`axe finds nothing serious, and nothing is wider than the screen: ${size}, ${scheme}`, async () => {
    const page = await signedIn(server, 'linxiao', { ...options, locale, colorScheme: scheme });
    for (const to of pages) {
      await go(page, to);
      await page.waitForLoadState('networkidle').catch(() => {});
      await page.waitForTimeout(300);
      await accessible(page, `${to}, ${size}, ${locale}`);
      expect(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth && (document.querySelector('.console .page')?.scrollWidth ?? 0) <= (document.querySelector('.console .page')?.clientWidth ?? 0)), to).toBe(true);
      if (to === 'box' && locale === 'zh-CN') {
        const said = await page.getByRole('region', { name: '运行状况' }).innerText();
        expect(said).toContain('（允许 4,096，需要 20,256）');
      }
    }
    await inert(page);
    clean(page);
    await page.context().close();
  });

for (const [locale, labels] of [['en-GB', ['When', 'Who', 'What', 'Result']], ['zh-CN', ['时间', '操作人', '操作', '结果']]] as const)
  test(`tables on a phone: rows are cards, each value has its label, nothing scrolls sideways: ${locale}`, async () => {
    const page = await signedIn(server, 'linxiao', { ...phone, locale });
    /** What is wider inside than outside, and what reaches over the screen's right edge. */
    const wide = () =>
      page.locator('.console').evaluate((console) =>
        [...console.querySelectorAll<HTMLElement>('.scroll, .page, table, td, th, .preview, .list li')]
          .filter((e) => (e.scrollWidth > e.clientWidth + 1 && /auto|scroll|hidden/.test(getComputedStyle(e).overflowX)) || (e.offsetWidth > 1 && e.getBoundingClientRect().right > innerWidth + 1 && !e.closest('thead')))
          .map((e) => `${e.tagName}.${e.className}: ${e.innerText.slice(0, 60)}`),
      );
    for (const to of pages) {
      await go(page, to);
      await page.waitForLoadState('networkidle').catch(() => {});
      if (['audit', 'rules'].includes(to)) await page.locator('tbody tr').first().waitFor();
      expect.soft(await wide(), to).toEqual([]);
      if (to !== 'audit') continue;
      await page.getByText(locale === 'zh-CN' ? '方式：密码' : 'with: password').first().waitFor(); // the server's codes in words
      const shown = await page.locator('tbody tr').first().locator('td').evaluateAll((cells) => cells.map((c) => getComputedStyle(c, '::before').content));
      expect(shown.map((c) => /^"([^"]*)"/.exec(c)?.[1])).toEqual(labels);
      expect(await page.locator('tbody tr').first().locator('td').evaluateAll((cells) => cells.every((c) => c.getBoundingClientRect().left >= 0 && (c as HTMLElement).innerText.trim() !== ''))).toBe(true);
    }
    await go(page, 'roster');
    await page.locator('input[type=file]').setInputFiles({ name: `${'list_of_the_school_'.repeat(5)}.csv`, mimeType: 'text/csv', buffer: Buffer.from(`class,role,name,username\n${long},student,${long},${'a.very.long.name.'.repeat(3)}x\n5A,king,Bad Role,bad\n`) });
    await page.locator('.preview').getByText(long).first().waitFor();
    expect.soft(await wide(), 'diff').toEqual([]);
    clean(page);
    await page.context().close();
  });

test('who reads Chinese meets no English sentence: what is wrong with a roster, and what the server refuses', async () => {
  const page = await signedIn(server, 'linxiao', { ...desktop, locale: 'zh-CN' });
  /** Three Latin words in a row, names of files and columns not counted. */
  const english = /[a-z']{2,} [a-z']{2,} [a-z']{2,}/i;
  await go(page, 'roster');
  const load = (name: string, ...rows: string[]) => page.locator('input[type=file]').setInputFiles({ name, mimeType: 'text/csv', buffer: Buffer.from(rows.join('\n')) });
  await load('bad.csv', 'class,role,name,username,guardian_of,password', '5A,老师,王小明,xiaoming,,', '5A,king,张三,zhangsan,,', '5A,学生,没有用户名,,,', '5A,学生,李四,li si,,', '5A,学生,赵六,zhaoliu,,123', ',家长,钱七,qianqi,nobody,', '5A,学生,"引号,yinhao,,');
  await page.getByText('6 行有问题').waitFor();
  const said = await page.locator('.preview td:not(.where)').allInnerTexts();
  for (const text of ['不认识角色“king”。可以写：管理员、老师、学生、访客、家长，或 bot。', '缺少用户名。', '“li si”不能作用户名：只能用文字、数字和 . _ - 这几个符号，最长 64 字节。', 'qianqi 的孩子 nobody 不在这份名册里。', '这一行的引号不成对。']) expect(said).toContain(text);
  expect(said.some((s) => s.startsWith('zhaoliu 的密码不能用：至少要 8 个字符'))).toBe(true);
  await load('good.csv', 'class,role,name,username,guardian_of,password', '5A,老师,王小明,xiaoming,,', '5A,学生,李四,lisi,,correct-horse-8', ',家长,钱七,qianqi,lisi,');
  await page.getByText('老师 1 名 · 学生 1 名').waitFor();
  await page.getByText('成员 · 带初始密码，首次登录时要换').waitFor();
  await page.getByText('lisi 的家长').waitFor();
  expect(await page.locator('.console').innerText()).not.toMatch(english);
  await load('broken.zip', 'PK\x03\x04');
  await page.getByRole('alert').getByText('这不是能用的名册').waitFor();
  expect(await page.locator('.console').innerText()).not.toMatch(english);

  // A name that is taken, one that can't be, a password that everybody tries.
  await go(page, 'people');
  await page.getByRole('button', { name: '添加人员' }).click();
  const dialog = page.getByRole('dialog');
  for (const [username, password, words] of [['bob', '', '这个用户名已经有人用了'], ['a b', '', '用户名不能用'], ['newcomer', '12345678', '密码不能用']] as const) {
    await dialog.getByLabel('姓名').fill('新来的');
    await dialog.getByLabel('用户名').fill(username);
    await dialog.locator('input[minlength]').fill(password);
    await dialog.getByRole('button', { name: '添加人员' }).click();
    await page.getByText(words).first().waitFor();
    expect(await page.locator('body').innerText()).not.toMatch(english);
  }
  clean(page);
  await page.context().close();
});

for (const [locale, words] of [['en-GB', { why: 'Nothing was imported: the box is full.', todo: 'The reason is below. Mend it, then press “Back up now”.', room: 'There is no room for a backup.', other: 'The backup was not made. Try again with another card or stick. (the stick was pulled out)' }], ['zh-CN', { why: '什么都没有导入。请稍后再试。', todo: '原因见下。处理好之后，请点“立即备份”。', room: '空间不够，放不下备份。', other: '备份没有写成。请换一张卡或 U 盘再试。（the stick was pulled out）' }]] as const)
  test(`what failed says why, once: ${locale}`, async () => {
    const page = await signedIn(server, 'linxiao', { ...desktop, locale, serviceWorkers: 'block' }); // a worker would hide what the test answers
    await go(page, 'roster');
    await page.route('**/v1/roster/import?*', (r) => r.fulfill({ status: 202, json: {} }));
    await page.route('**/v1/roster', (r) => r.fulfill({ json: { state: 'idle', done: 0, total: 0, why: 'Nothing was imported: the box is full.' } }));
    await page.locator('input[type=file]').setInputFiles({ name: 'r.csv', mimeType: 'text/csv', buffer: Buffer.from('class,role,name,username\n5C,student,Cai,caicai\n') });
    await page.locator('.end .btn').last().click();
    await page.getByRole('alert').getByText(words.why, { exact: true }).waitFor();
    expect(await page.locator('.banner').count()).toBe(0);

    const places: object[] = [{ place: 'card', records: 0, bytes: 0, error: 'no space left on device', why: 'room' }, { place: 'stick', at: Date.now(), records: 7, bytes: 1e6 }];
    await page.route('**/v1/box/backups', (r) => r.fulfill({ json: { key: true, running: false, error: 'the stick was pulled out', places, kept: [] } }));
    await go(page, 'backups');
    const banner = page.locator('.banner.act');
    await banner.getByText(words.todo, { exact: true }).waitFor();
    expect((await page.locator('.console').innerText()).split(words.room).length - 1).toBe(1);
    await page.locator('.place').getByText(words.room).waitFor();
    // An error that is no place's: the banner says it, since nothing else does.
    places.splice(0, 1);
    await go(page, 'box');
    await go(page, 'backups');
    await banner.getByText(words.other, { exact: true }).waitFor();
    expect(await page.locator('.place').count()).toBe(1);
    clean(page);
    await page.context().close();
  });

test('the corpus of hostile texts is shown as it is in every list and field of the console', async () => {
  const page = await signedIn(server, 'linxiao');
  await go(page, 'classes');
  // As a page of this server sends them; what the server refuses shows nothing.
  const made = await page.evaluate(async (texts) => {
    const ask = (method: string, path: string, body: object) => fetch(path, { method, headers: { 'Content-Type': 'application/json', 'Idempotency-Key': crypto.randomUUID?.() ?? String(Math.random()) }, body: JSON.stringify(body) }).then((r) => r.ok);
    const n: Record<string, number> = {};
    const count = async (what: string, ok: Promise<boolean>) => (n[what] = (n[what] ?? 0) + ((await ok) ? 1 : 0));
    for (const [i, text] of texts.entries()) {
      await count('class', ask('POST', '/v1/classes', { name: text, term: text }));
      await count('token', ask('POST', '/v1/tokens', { name: text, scopes: ['users:read'] }));
      await count('program', ask('POST', '/v1/oidc/clients', { name: text, kind: 'device' }));
      await count('provider', ask('PUT', `/v1/oidc/providers/p${i}`, { name: text, issuer: 'https://login.example', client_id: text, role_claim: text, roles: { [text]: 'staff' } }));
      await count('invitation', ask('POST', '/v1/invitations', { name: text, role: 'member' }));
      await count('person', ask('POST', '/v1/users', { username: `evil${i}`, name: text, role: 'member' }));
    }
    return n;
  }, corpus.map(cut));
  for (const [what, n] of Object.entries(made)) expect(n, what).toBeGreaterThan(corpus.length / 2);
  for (const to of pages) {
    await go(page, to);
    await page.waitForTimeout(500);
    await inert(page);
  }
  // In the fields of the sheets, in the diff of a roster, and as a filter.
  await go(page, 'classes');
  await page.locator('.list button', { hasText: '<iframe' }).first().click();
  expect(await page.getByRole('dialog').getByLabel('Name', { exact: true }).inputValue()).toContain('<iframe');
  await inert(page);
  await page.keyboard.press('Escape');
  await go(page, 'signin');
  await page.getByRole('button', { name: /^Edit.*</ }).first().click();
  await page.getByText('Accounts, roles and classes').click();
  await inert(page);
  await page.keyboard.press('Escape');
  await go(page, 'roster');
  const quote = (s: string) => `"${s.replaceAll('"', '""')}"`;
  const rows = corpus.map((c, i) => `${quote(cut(c))},student,${quote(cut(c))},row${i}`).join('\n');
  await page.locator('input[type=file]').setInputFiles({ name: '<img src=x onerror=window.owned=1>.csv', mimeType: 'text/csv', buffer: Buffer.from(`class,role,name,username\n${rows}\nx,<svg onload=window.owned=1>,y,z\n`) });
  await page.locator('.preview').waitFor();
  await page.locator('.preview details').evaluateAll((all) => all.forEach((d) => ((d as HTMLDetailsElement).open = true)));
  await page.locator('.preview').getByText('<img src=x onerror=window.owned=1>').first().waitFor();
  await inert(page);
  await go(page, 'people');
  for (const text of corpus.slice(0, 8)) await page.getByRole('searchbox').fill(cut(text));
  await inert(page);
  clean(page);
  await page.context().close();
});
