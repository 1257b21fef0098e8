/**
 * Where a sign-in is kept: the one seam between the app and how it proves who
 * the user is. localStorage for now, readable by every script of this origin;
 * the CSP lets no other script in.
 */
export interface Credentials {
  token: string;
  userId: string;
  tenantId: string;
}

const name = 'pipit:signin';

export function loadCredentials(): Credentials | undefined {
  try {
    const c = JSON.parse(localStorage.getItem(name) ?? 'null') as Credentials | null;
    return c?.token && c.userId ? c : undefined;
  } catch {
    return undefined;
  }
}

export function saveCredentials(c: Credentials): void {
  localStorage.setItem(name, JSON.stringify(c));
}

export function dropCredentials(): void {
  localStorage.removeItem(name);
}

/** Other tabs of this browser signed in or out. */
export function onCredentials(fn: () => void): void {
  addEventListener('storage', (e) => {
    if (e.key === name || e.key === null) fn();
  });
}
