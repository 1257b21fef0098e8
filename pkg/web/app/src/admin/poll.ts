import { untrack } from 'svelte';

/**
 * Calls `fn` now and again each `ms`, one call at a time; not while the tab is
 * hidden, and at once when it is seen again. Returns what ends it.
 */
export function poll(fn: () => Promise<unknown>, ms: number): () => void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  let ended = false;
  let busy = false;
  async function turn() {
    clearTimeout(timer);
    if (busy || ended || document.hidden) return;
    busy = true;
    await untrack(fn).catch(() => {}); // what it reads must not start an effect again, and with it the poll
    busy = false;
    if (!ended) timer = setTimeout(turn, ms);
  }
  const seen = () => void turn();
  document.addEventListener('visibilitychange', seen);
  void turn();
  return () => {
    ended = true;
    clearTimeout(timer);
    document.removeEventListener('visibilitychange', seen);
  };
}
