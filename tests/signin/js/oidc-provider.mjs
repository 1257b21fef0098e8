// oidc-provider (certified) as a customer's provider, with its own pages.
import { createServer } from 'node:http';
import { once } from 'node:events';
import Provider from 'oidc-provider';
import { args, say } from './io.mjs';

const server = createServer();
server.listen(0, '127.0.0.1');
await once(server, 'listening');
const issuer = `http://127.0.0.1:${server.address().port}`;
console.log = console.info = console.warn = () => {};
const provider = new Provider(issuer, {
  clients: [{ client_id: 'pipit', client_secret: args.secret, redirect_uris: [args.redirect], post_logout_redirect_uris: [args.logout] }],
  claims: { openid: ['sub'], profile: ['name', 'preferred_username', 'groups'], email: ['email', 'email_verified'] },
  pkce: { required: () => true },
  findAccount: (_, id) => ({
    accountId: id,
    claims: () => ({ sub: id, name: 'Kim Park', preferred_username: id, email: `${id}@school.example`, email_verified: true, groups: ['teachers'] }),
  }),
});
server.on('request', provider.callback());
say({ issuer });
process.stdin.on('end', () => process.exit(0)).resume();
