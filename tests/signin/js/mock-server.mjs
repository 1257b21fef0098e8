// oauth2-mock-server as a customer's provider; it says what the test wants.
import { OAuth2Server } from 'oauth2-mock-server';
import { args, say } from './io.mjs';

const server = new OAuth2Server();
await server.issuer.keys.generate('RS256');
await server.start(0, '127.0.0.1');
server.issuer.url = `http://127.0.0.1:${server.address().port}`;
let claims = {};
server.service.on('beforeTokenSigning', (token) => {
  Object.assign(token.payload, { sub: 'mock-1', name: 'Mo Ck', preferred_username: 'mock', email: 'mock@school.example', email_verified: true }, args.claims, claims);
  for (const name of args.without ?? []) delete token.payload[name];
});
say({ issuer: server.issuer.url });
process.stdin.on('end', () => process.exit(0)).resume();
