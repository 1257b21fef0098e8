/**
 * Passkeys: what the server asks for and the browser answers, in the JSON form of
 * WebAuthn Level 3 §5.1.8. The browser's own parsers for it are too young for the
 * phones of a school, so the few members that hold bytes are turned here.
 */

/** Whether there can be passkeys on this page: a secure context under a name, and a browser that knows them. */
export const passkeysHere = isSecureContext && 'PublicKeyCredential' in window && !/^[\d.]+$|:/.test(location.hostname.replace(/[[\]]/g, ''));

const bytes = (s: string) => Uint8Array.from(atob(s.replace(/-/g, '+').replace(/_/g, '/')), (c) => c.charCodeAt(0));
const text = (b: ArrayBuffer) =>
  btoa(Array.from(new Uint8Array(b), (c) => String.fromCharCode(c)).join(''))
    .replace(/\+/g, '-')
    .replace(/\//g, '_')
    .replace(/=+$/, '');

type Descriptor = { id: string; type: 'public-key'; transports?: AuthenticatorTransport[] };
const descriptors = (list: Descriptor[] | undefined) => list?.map((d) => ({ ...d, id: bytes(d.id) }));

/** Has the browser make a passkey; undefined if the person thought better of it. */
export async function makePasskey(options: any): Promise<object | undefined> {
  const p = options.publicKey;
  const c = await ask(() =>
    navigator.credentials.create({ publicKey: { ...p, challenge: bytes(p.challenge), user: { ...p.user, id: bytes(p.user.id) }, excludeCredentials: descriptors(p.excludeCredentials) } }),
  );
  if (!c) return undefined;
  const r = c.response as AuthenticatorAttestationResponse;
  return { ...common(c), response: { clientDataJSON: text(r.clientDataJSON), attestationObject: text(r.attestationObject), transports: r.getTransports?.() ?? [] } };
}

/** Has the browser sign in with one; undefined if the person thought better of it. */
export async function usePasskey(options: any): Promise<object | undefined> {
  const p = options.publicKey;
  const c = await ask(() => navigator.credentials.get({ publicKey: { ...p, challenge: bytes(p.challenge), allowCredentials: descriptors(p.allowCredentials) } }));
  if (!c) return undefined;
  const r = c.response as AuthenticatorAssertionResponse;
  return { ...common(c), response: { clientDataJSON: text(r.clientDataJSON), authenticatorData: text(r.authenticatorData), signature: text(r.signature), userHandle: r.userHandle ? text(r.userHandle) : undefined } };
}

const common = (c: PublicKeyCredential) => ({ id: c.id, rawId: text(c.rawId), type: c.type, clientExtensionResults: c.getClientExtensionResults() });

/** Browsers answer the same error to "no", to a timeout and to "there is none": that is no fault to speak of. */
async function ask(fn: () => Promise<Credential | null>): Promise<PublicKeyCredential | undefined> {
  try {
    return ((await fn()) as PublicKeyCredential | null) ?? undefined;
  } catch (e) {
    if (e instanceof DOMException && (e.name === 'NotAllowedError' || e.name === 'AbortError')) return undefined;
    throw e;
  }
}
