// The service worker: the shell of the app opens without a network, and the
// server is asked for nothing that is here already. Messages are not its
// business; they are in IndexedDB. The build puts in version and files.
const cache = 'pipit-' + 'VERSION';
const files = ['FILES'];

self.addEventListener('install', (e) => {
  e.waitUntil(caches.open(cache).then((c) => c.addAll(files)).then(() => self.skipWaiting()));
});

self.addEventListener('activate', (e) => {
  e.waitUntil(
    caches
      .keys()
      .then((all) => Promise.all(all.filter((k) => k.startsWith('pipit-') && k !== cache).map((k) => caches.delete(k))))
      .then(() => self.clients.claim()),
  );
});

self.addEventListener('fetch', (e) => {
  const url = new URL(e.request.url);
  if (e.request.method !== 'GET' || url.origin !== location.origin) return;
  if (url.pathname.startsWith('/assets/') || url.pathname === '/icon.svg') {
    e.respondWith(caches.match(e.request).then((r) => r || fetch(e.request)));
  } else if (e.request.mode === 'navigate' && url.pathname === '/') {
    // The newest page if the server answers soon, else the one that is here.
    e.respondWith(Promise.race([fetch(e.request), late(3000)]).catch(() => caches.match('/').then((r) => r || fetch(e.request))));
  }
});

function late(ms) {
  return new Promise((_, reject) => setTimeout(() => reject(new Error('late')), ms));
}
