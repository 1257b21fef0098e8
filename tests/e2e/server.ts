/** A real pipitd for one test file: started, fed with people, killed and started again. */
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import WebSocket from 'ws';
import { Client, signIn, type SocketFactory } from '@pipit/sdk';

/** Where globalSetup built the commands. */
export const bin = process.env.PIPIT_E2E_BIN ?? new URL('../../.build/e2e', import.meta.url).pathname;
export const password = 'correct-horse-battery';

export interface Person {
  username: string;
  name: string;
  role?: string;
}

export class Server {
  private child: ChildProcess | undefined;
  private log = '';
  readonly dir = mkdtempSync(join(tmpdir(), 'pipit-e2e-'));
  private constructor(
    readonly port: number,
    /** Options of pipitd; a change counts from the next run on. */
    readonly flags: string[],
  ) {}

  /** One that may open so few files that it is a condition of its health. */
  static async cramped(files: number): Promise<Server> {
    const s = new Server(await freePort(), []);
    s.files = files;
    await s.run();
    return s;
  }

  static async start(...flags: string[]): Promise<Server> {
    const s = new Server(await freePort(), flags);
    await s.run();
    return s;
  }

  private files?: number;

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  /** Starts the process on the same data and port, and waits until it is ready. */
  async run(): Promise<void> {
    this.log = '';
    const limit = this.files ? ['sh', '-c', `ulimit -n ${this.files} && exec "$0" "$@"`] : [];
    const [program, ...args] = [...limit, join(bin, 'pipitd'), '--data-dir', join(this.dir, 'd'), '--listen', `127.0.0.1:${this.port}`, '--metrics-listen', '', ...this.flags] as [string, ...string[]];
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    child.stdout!.on('data', (d) => (this.log += d));
    child.stderr!.on('data', (d) => (this.log += d));
    this.child = child;
    for (;;) {
      if (child.exitCode !== null) throw new Error(`pipitd ended:\n${this.log}`);
      // A box without space is not ready and serves all the same; "starting" is neither.
      const ok = await fetch(`${this.url}/readyz`).then(async (r) => r.ok || (r.status === 503 && this.flags.includes('--storage-low-water-bytes') && !/start/i.test(await r.text())), () => false);
      if (ok) return;
      await new Promise((r) => setTimeout(r, 30));
    }
  }

  /** kill -9, as a power cut would end it. */
  async kill(): Promise<void> {
    const child = this.child!;
    const ended = new Promise((r) => child.once('exit', r));
    child.kill('SIGKILL');
    await ended;
  }

  async close(): Promise<void> {
    if (this.child?.exitCode === null && this.child.signalCode === null) await this.kill(); // a killed one has no exit code
    rmSync(this.dir, { recursive: true, force: true });
  }

  /**
   * Says that somebody set this machine's clock since it started, as `pipit clock
   * set` does: id_tokens are given out and believed only then, and the machine of
   * a test may have no time server.
   */
  clockSet(): void {
    // The server's first note of the time, a moment after its start, must not come behind ours.
    for (let i = 0; !existsSync(join(this.dir, 'd', 'clock')); i++) {
      if (i > 300) throw new Error('pipitd writes down no time');
      execFileSync('sleep', ['0.1']);
    }
    const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
    writeFileSync(join(this.dir, 'd', 'clock'), JSON.stringify({ last: new Date().toISOString(), set_boot: boot }) + '\n');
  }

  tool(args: string[], input = ''): string {
    return execFileSync(join(bin, 'pipit'), ['--data-dir', join(this.dir, 'd'), ...args], { input, encoding: 'utf8' });
  }

  tenant(id: string, name: string): void {
    this.tool(['tenant', 'add', id, '--name', name]);
  }

  people(...list: Person[]): void {
    for (const p of list) this.tool(['user', 'add', p.username, '--role', p.role ?? 'member', '--name', p.name, '--password-stdin'], password + '\n');
  }

  /** A person who speaks to the server without a browser. */
  async robot(username: string, more: object = {}): Promise<Client> {
    const s = await signIn(this.url, { username, password });
    const c = new Client({ url: this.url, token: s.token, WebSocket: WebSocket as unknown as SocketFactory, ...more });
    await c.start();
    await new Promise<void>((resolve) => {
      if (c.state === 'online') return resolve();
      const off = c.on('state', (state) => state === 'online' && (off(), resolve()));
    });
    return c;
  }
}

export function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const s = createServer();
    s.listen(0, '127.0.0.1', () => {
      const { port } = s.address() as { port: number };
      s.close(() => resolve(port));
    });
  });
}
