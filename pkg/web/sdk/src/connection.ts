/**
 * One WebSocket from its opening to its end: requests find their replies,
 * everything else is handed on. It never reconnects; client.ts decides that.
 */
import type { Events, Methods, Notification } from './protocol.gen.js';
import { ConnectionLost, decodeEvent, decodeMessage, decodeResult, encodeRequest } from './wire.js';

/** The part of the WebSocket interface that is used; browsers, Node 22 and the ws package have it. */
export interface Socket {
  send(text: string): void;
  close(code?: number): void;
  onopen: ((e: any) => void) | null;
  onmessage: ((e: any) => void) | null;
  onclose: ((e: any) => void) | null;
  onerror: ((e: any) => void) | null;
}

export type SocketFactory = new (url: string, protocol: string) => Socket;

export interface Handler {
  opened(): void;
  event<E extends keyof Events>(name: E, params: Events[E]): void;
  /** Called once, whoever ended it. `opened` may never have been called. */
  closed(code: number, reason: string): void;
}

interface Waiting {
  method: keyof Methods;
  resolve(v: unknown): void;
  reject(e: Error): void;
}

export class Connection {
  /** When anything last arrived, in the clock of performance.now(). */
  heard = performance.now();
  /** How many requests went out; tests count storms with it. */
  sent = 0;
  private readonly socket: Socket;
  private readonly waiting = new Map<number, Waiting>();
  private next = 1;
  private over = false;

  constructor(factory: SocketFactory, url: string, private readonly handler: Handler) {
    this.socket = new factory(url, 'pipit.v1');
    this.socket.onopen = () => {
      this.heard = performance.now();
      if (!this.over) handler.opened();
    };
    this.socket.onmessage = (e) => this.message(String(e.data));
    this.socket.onclose = (e) => this.end(e?.code || 1006, e?.reason ?? '');
    this.socket.onerror = () => {}; // a close event follows, and has the code
  }

  request<M extends keyof Methods>(method: M, params: Methods[M]['params']): Promise<Methods[M]['result']> {
    return new Promise((resolve, reject) => {
      if (this.over) return reject(new ConnectionLost('not connected'));
      const id = this.next++;
      this.waiting.set(id, { method, resolve: resolve as (v: unknown) => void, reject });
      this.write(encodeRequest(id, method, params as object));
    });
  }

  notify<N extends Notification>(method: N, params: Methods[N]['params']): void {
    if (!this.over) this.write(encodeRequest(undefined, method, params as object));
  }

  /** Ends it at once, as far as we are concerned: a dead network never says goodbye. */
  drop(code = 1006, reason = ''): void {
    if (this.over) return;
    try {
      this.socket.close(1000);
    } catch {
      // It was not open yet, or is gone.
    }
    this.end(code, reason);
  }

  private write(text: string): void {
    this.sent++;
    try {
      this.socket.send(text);
    } catch {
      this.drop();
    }
  }

  private message(text: string): void {
    if (this.over) return;
    this.heard = performance.now();
    const m = decodeMessage(text);
    if (m.type === 'event') {
      const params = decodeEvent(m.method as keyof Events, m.value);
      if (params) this.handler.event(m.method as keyof Events, params as never);
    } else if (m.type === 'reply' || m.type === 'error') {
      const w = this.waiting.get(m.id as number);
      if (!w) return;
      this.waiting.delete(m.id as number);
      if (m.type === 'error') return w.reject(m.error);
      const v = decodeResult(w.method, m.value);
      if (v) w.resolve(v);
      else w.reject(new Error(`the server's answer to ${w.method} is not as the protocol says`));
    }
  }

  private end(code: number, reason: string): void {
    if (this.over) return;
    this.over = true;
    const lost = new ConnectionLost('the connection ended');
    for (const w of this.waiting.values()) w.reject(lost);
    this.waiting.clear();
    this.handler.closed(code, reason);
  }
}
