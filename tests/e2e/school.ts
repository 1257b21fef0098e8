/** A small school that talks like one, in Chinese and English: for screenshots and for tests that need company. */
import type { Client } from '@pipit/sdk';
import { Server } from './server';

export interface School {
  server: Server;
  group: string;
  robots: Record<string, Client>;
  close(): Promise<void>;
}

export async function school(): Promise<School> {
  const server = await Server.start();
  server.tenant('oakhill', '橡树小学');
  server.people(
    { username: 'linxiao', name: '林晓', role: 'owner' },
    { username: 'wangmin', name: '王敏老师', role: 'staff' },
    { username: 'zhou', name: '周子涵' },
    { username: 'ann', name: 'Ann Lee', role: 'staff' },
    { username: 'chen', name: '陈建国', role: 'staff' },
    { username: 'max', name: 'Maximiliane Alexandra von Hohenstein-Wallenfels' },
  );
  const robots: Record<string, Client> = {};
  for (const u of ['linxiao', 'wangmin', 'zhou', 'ann', 'chen']) robots[u] = await server.robot(u);
  const { linxiao, wangmin, zhou, ann, chen } = robots as Record<string, Client>;
  const find = async (u: string) => (await linxiao!.request('user.search', { query: u, limit: 5 })).users.find((x) => x.username === u)!.id;
  const ids = Object.fromEntries(await Promise.all(['wangmin', 'zhou', 'ann', 'chen', 'max', 'linxiao'].map(async (u) => [u, u === 'linxiao' ? linxiao!.me : await find(u)])));
  let n = 0;
  const make = (c: Client, kind: 'group' | 'channel' | 'notice', title: string, ...members: string[]) => c.request('conversation.create', { kind, title, members: members.map((m) => ids[m]!), key: `k${n++}` }).then((h) => h.id);

  const quiet = await make(chen!, 'channel', '打印机与网络报修');
  await chen!.send(quiet, '打印机已经修好了');
  const math = await make(wangmin!, 'group', '数学教研组', 'linxiao', 'zhou');
  await wangmin!.send(math, '第三单元的练习大家看一下');
  const long = await make(ann!, 'group', 'The committee for the spring excursion, the summer fair and everything else that has a very long name', 'linxiao', 'max');
  await ann!.send(long, 'A_word_without_any_place_to_break_it_'.repeat(6));
  const board = await make(linxiao!, 'notice', '全校通知', 'wangmin', 'zhou', 'ann', 'chen', 'max');
  await linxiao!.send(board, '周五下午家长会，请各班确认。\n\n时间：**15:30**，地点：各班教室。');
  const direct = (await ann!.request('conversation.direct', { user: ids.linxiao! })).id;
  await ann!.send(direct, 'Sounds good, see you at the library!');
  const wang = (await wangmin!.request('conversation.direct', { user: ids.linxiao! })).id;

  const group = await make(wangmin!, 'group', '五年级甲班', 'linxiao', 'zhou', 'ann', 'chen', 'max');
  const hello = await wangmin!.send(group, '同学们早！今天的数学课改到第二节，请带好三角板和量角器。');
  for (const c of [linxiao!, zhou!, ann!]) await (await c.enqueue('message.react', { conversation: group, target: hello.seq, emoji: '👍', on: true })).done;
  await (await zhou!.enqueue('message.react', { conversation: group, target: hello.seq, emoji: '❤️', on: true })).done;
  const page = await wangmin!.send(group, '练习册第 28 页，做到第 6 题就可以。');
  await (await wangmin!.enqueue('message.pin', { conversation: group, target: page.seq, on: true })).done;
  await zhou!.send(group, '老师，第 5 题的 `x` 是整数吗？', { reply_to: page.seq });
  const mine = await linxiao!.send(group, '是的，题目第二行写了“x 为正整数”。');
  await zhou!.read(group, mine.seq);
  await ann!.read(group, mine.seq);
  await ann!.send(group, 'Here is the program of the day:\n```\nfor pupil in class_5a:\n    print(pupil.name)\n```\nMore at https://oakhill.example/day?x=1');
  await linxiao!.read(group, mine.seq + 1);
  await wangmin!.send(group, '@林晓 明天的值日生名单请确认一下，谢谢。', { mentions: [ids.linxiao!] });
  await wangmin!.send(group, '还有，周三的值日表也一起发我。');
  await wangmin!.send(wang, '春游的回执我放在群文件里了');
  await wangmin!.send(wang, '有空看一下');
  return {
    server,
    group,
    robots,
    async close() {
      for (const r of Object.values(robots)) await r.stop();
      await server.close();
    },
  };
}
