/**
 * Who is signed in here. The token itself is in a cookie that no script can read
 * (PROTOCOL 9.5); what is kept here only names the user, so that what this
 * device has of the conversations can be shown before the server answers.
 */
export interface Credentials {
  userId: string;
  tenantId: string;
}

const name = 'pipit:signin';

export function loadCredentials(): Credentials | undefined {
  try {
    const c = JSON.parse(localStorage.getItem(name) ?? 'null') as Credentials | null;
    return c?.userId ? c : undefined;
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
