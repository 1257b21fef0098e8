// openid-client (certified) against the provider of the box.
import * as client from 'openid-client';
import { args, check, done, refused, visit } from './io.mjs';

const redirect_uri = args.redirect;
for (const [alg, id, secret] of [['ES256', args.id, args.secret], ['RS256', args.rsID, args.rsSecret]]) {
  const config = await client.discovery(new URL(args.issuer), id, { client_secret: secret, id_token_signed_response_alg: alg }, undefined, {
    execute: [client.allowInsecureRequests], // loopback
  });
  client.enableNonRepudiationChecks(config); // signatures are checked although they came straight from the provider
  const verifier = client.randomPKCECodeVerifier();
  const state = client.randomState();
  const nonce = client.randomNonce();
  const begin = client.buildAuthorizationUrl(config, {
    redirect_uri, scope: 'openid profile email offline_access', state, nonce,
    code_challenge: await client.calculatePKCECodeChallenge(verifier), code_challenge_method: 'S256',
  });
  const back = await visit(begin);
  const expect = { pkceCodeVerifier: verifier, expectedState: state, expectedNonce: nonce, idTokenExpected: true };
  const tokens = await client.authorizationCodeGrant(config, back, expect);
  const claims = tokens.claims();
  check('claims', claims.sub && claims.preferred_username === args.username && claims.tenant === args.tenant && claims.role === args.role);
  const info = await client.fetchUserInfo(config, tokens.access_token, claims.sub);
  check('userinfo', info.name === args.name);
  const seen = await client.tokenIntrospection(config, tokens.access_token);
  check('introspection', seen.active && seen.client_id === id);

  const err = await refused('a code a second time', () => client.authorizationCodeGrant(config, back, expect));
  check('invalid_grant', err.error === 'invalid_grant');
  check('tokens of a replayed code end', !(await client.tokenIntrospection(config, tokens.access_token)).active);

  const again = await client.authorizationCodeGrant(config, await visit(begin), expect);
  const second = await client.refreshTokenGrant(config, again.refresh_token);
  check('rotation', second.refresh_token !== again.refresh_token && second.claims().sub === claims.sub);
  await client.tokenRevocation(config, second.refresh_token);
  check('revocation', !(await client.tokenIntrospection(config, second.access_token)).active);
  await refused('a revoked refresh token', () => client.refreshTokenGrant(config, second.refresh_token));

  // An answer of somebody else: the client itself looks at iss (RFC 9207).
  const mixed = new URL(await visit(begin));
  mixed.searchParams.set('iss', 'https://evil.example');
  await refused('an answer of another issuer', () => client.authorizationCodeGrant(config, mixed, expect));

  const out = client.buildEndSessionUrl(config, { id_token_hint: second.id_token, post_logout_redirect_uri: args.logout, state: 'x' });
  check('logout', String(await visit(out)) === args.logout + '?state=x');
}

// The device grant, as the box's own command line.
const device = await client.discovery(new URL(args.issuer), 'pipit-cli', undefined, client.None(), { execute: [client.allowInsecureRequests] });
const asked = await client.initiateDeviceAuthorization(device, { scope: 'openid profile chat offline_access' });
asked.interval = 5;
await visit(asked.verification_uri_complete);
const got = await client.pollDeviceAuthorizationGrant(device, asked);
check('device', got.claims().preferred_username === args.username && got.refresh_token);
done({ token: got.access_token });
