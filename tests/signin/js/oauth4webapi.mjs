// oauth4webapi against the provider of the box, as a native program without secret.
import * as oauth from 'oauth4webapi';
import { args, check, done, refused, visit } from './io.mjs';

const plain = { [oauth.allowInsecureRequests]: true }; // loopback
const issuer = new URL(args.issuer);
for (const algorithm of ['oidc', 'oauth2']) {
  // oauth2: the metadata of RFC 8414, at its own address.
  const found = await oauth.discoveryRequest(issuer, { ...plain, algorithm });
  const as = await oauth.processDiscoveryResponse(issuer, found);
  check('iss is promised', as.authorization_response_iss_parameter_supported === true);
  const client = { client_id: args.nativeID, token_endpoint_auth_method: 'none' };
  const redirect = args.nativeRedirect; // another port than the one that is registered (RFC 8252)
  const verifier = oauth.generateRandomCodeVerifier();
  const state = oauth.generateRandomState();
  const nonce = oauth.generateRandomNonce();
  const begin = new URL(as.authorization_endpoint);
  begin.search = new URLSearchParams({
    client_id: client.client_id, redirect_uri: redirect, response_type: 'code', scope: 'openid profile offline_access', state, nonce,
    code_challenge: await oauth.calculatePKCECodeChallenge(verifier), code_challenge_method: 'S256',
  });
  const params = oauth.validateAuthResponse(as, client, await visit(begin), state);
  const none = oauth.None();
  const exchange = (v) => oauth.authorizationCodeGrantRequest(as, client, none, params, redirect, v, plain);
  const wrong = await refused('another verifier', async () => oauth.processAuthorizationCodeResponse(as, client, await exchange(oauth.generateRandomCodeVerifier())));
  check('invalid_grant', wrong.error === 'invalid_grant');

  const params2 = oauth.validateAuthResponse(as, client, await visit(begin), state);
  const response = await oauth.authorizationCodeGrantRequest(as, client, none, params2, redirect, verifier, plain);
  const tokens = await oauth.processAuthorizationCodeResponse(as, client, response, { expectedNonce: nonce, requireIdToken: true });
  await oauth.validateApplicationLevelSignature(as, response, plain);
  const claims = oauth.getValidatedIdTokenClaims(tokens);
  const info = await oauth.processUserInfoResponse(as, client, claims.sub, await oauth.userInfoRequest(as, client, tokens.access_token, plain));
  check('userinfo', info.preferred_username === args.username);

  const next = await oauth.processRefreshTokenResponse(as, client, await oauth.refreshTokenGrantRequest(as, client, none, tokens.refresh_token, plain));
  const reuse = await refused('a used refresh token', async () => oauth.processRefreshTokenResponse(as, client, await oauth.refreshTokenGrantRequest(as, client, none, tokens.refresh_token, plain)));
  check('invalid_grant', reuse.error === 'invalid_grant');
  await refused('the newest of a family that ended', async () => oauth.processRefreshTokenResponse(as, client, await oauth.refreshTokenGrantRequest(as, client, none, next.refresh_token, plain)));
  const gone = await oauth.userInfoRequest(as, client, next.access_token, plain);
  check('its access token ended too', gone.status === 401 && /invalid_token/.test(gone.headers.get('www-authenticate')));
}
done();
