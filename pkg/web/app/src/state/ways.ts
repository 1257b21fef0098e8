/** Where this page is, and the ways in that it offers besides a password. */
import { call } from './api';

export interface Way {
  id: string;
  name: string;
  path: string;
  down?: boolean;
  /** This browser signed in through it last. */
  last?: boolean;
}

export interface Ways {
  tenant: { id: string; name: string };
  providers: Way[];
}

/** The tenant that the address names: /t/NAME/ and /t/NAME/join are its pages. */
export const tenantHere = /^\/t\/([^/]+)\//.exec(location.pathname)?.[1];

/** True on the page where somebody uses an invitation; its code stands behind the #, so that no server sees it. */
export const joining = /^\/t\/[^/]+\/join$/.test(location.pathname);

/** What the sign-in page can offer; nothing where the server does not say. */
export function ways(tenant?: string): Promise<Ways | undefined> {
  const t = tenant ?? tenantHere;
  return call<Ways>('GET', `/v1/sign-in${t ? `?tenant=${encodeURIComponent(t)}` : ''}`).catch(() => undefined);
}
