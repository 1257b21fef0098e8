/**
 * A newer version of this page. Where there is a service worker, it fetches one in
 * the background and says so; the page takes it over when nobody looks, or at a
 * press. Drafts and outbox are stored at each keystroke, so a reload loses nothing.
 */
let ready = $state(false);
// A page that is being left is hidden too, and a reload from there would be one more, or take the place of where the person goes.
let leaving = false;

export const update = {
  /** A newer version is here and waits for a reload. */
  get ready() {
    return ready;
  },
  take() {
    leaving = true;
    location.reload();
  },
};

const every = 10 * 60_000; // how often a page that comes back asks, at most
let asked = Date.now();

/** Watches for newer versions. */
export function watchForUpdates(): void {
  // Parts of the page that are fetched later may be gone from a server that was updated meanwhile: the new page has its own.
  addEventListener('vite:preloadError', (e) => {
    const last = Number(sessionStorage.getItem('pipit:reloaded'));
    if (Date.now() - last < 60_000) return; // it would not help twice
    e.preventDefault();
    sessionStorage.setItem('pipit:reloaded', String(Date.now()));
    location.reload();
  });
  if (!import.meta.env.PROD || !('serviceWorker' in navigator) || !isSecureContext) return;
  const worker = navigator.serviceWorker;
  let before = worker.controller;
  worker.addEventListener('controllerchange', () => {
    if (before) {
      ready = true;
      whenUnseen();
    }
    before = worker.controller;
  });
  addEventListener('pagehide', () => (leaving = true));
  addEventListener('pageshow', () => (leaving = false));
  addEventListener('load', () => void worker.register('/worker.js').catch(() => {}));
  document.addEventListener('visibilitychange', () => {
    if (document.visibilityState === 'hidden') return whenUnseen();
    if (Date.now() - asked < every) return;
    asked = Date.now();
    void worker.getRegistration().then((r) => r?.update()).catch(() => {});
  });
}

/** Nobody looks, and no half-filled form but the composer, whose draft is kept, is open. */
function whenUnseen(): void {
  const typing = document.querySelector('dialog[open], main form:not(.composer)');
  if (ready && !leaving && document.visibilityState === 'hidden' && !typing) update.take();
}
