/** In front of a pipitd: passes everything on, but may serve some paths itself. So a test can have a newer build of the page without making one. */
import { createServer, request, type Server as HTTP } from 'node:http';
import { connect, type AddressInfo } from 'node:net';

export class Proxy {
  readonly own = new Map<string, { type: string; body: string }>();
  private constructor(
    private readonly http: HTTP,
    readonly port: number,
  ) {}

  static async start(to: number): Promise<Proxy> {
    const http = createServer((req, res) => {
      const mine = proxy.own.get(new URL(req.url!, 'http://x').pathname);
      if (mine) return void res.writeHead(200, { 'Content-Type': mine.type, 'Cache-Control': 'no-cache' }).end(mine.body);
      const up = request({ port: to, host: '127.0.0.1', method: req.method, path: req.url, headers: req.headers }, (r) => {
        res.writeHead(r.statusCode!, r.headers);
        r.pipe(res);
      });
      up.on('error', () => res.destroy());
      req.pipe(up);
    });
    http.on('upgrade', (req, socket, head) => {
      const up = connect(to, '127.0.0.1', () => {
        up.write(`${req.method} ${req.url} HTTP/1.1\r\n${req.rawHeaders.map((h, i) => (i % 2 ? h + '\r\n' : h + ': ')).join('')}\r\n`);
        up.write(head);
        up.pipe(socket);
        socket.pipe(up);
      });
      up.on('error', () => socket.destroy());
      socket.on('error', () => up.destroy());
    });
    await new Promise<void>((r) => http.listen(0, '127.0.0.1', r));
    const proxy = new Proxy(http, (http.address() as AddressInfo).port);
    return proxy;
  }

  close(): void {
    this.http.closeAllConnections();
    this.http.close();
  }
}
