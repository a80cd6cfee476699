/** Registers the service worker, and offers a new version of the page when there is one. */

/** Calls `offer` when a new version waits; the function that it gets takes it into use and loads the page again. */
export async function workOffline(offer: (take: () => void) => void): Promise<void> {
  if (!('serviceWorker' in navigator)) return;
  const registration = await navigator.serviceWorker.register('./service-worker.js');
  const ready = (worker: ServiceWorker | null): void => {
    // Without a controller this is the first visit: nothing is replaced.
    if (worker === null || navigator.serviceWorker.controller === null) return;
    offer(() => {
      navigator.serviceWorker.addEventListener('controllerchange', () => location.reload(), { once: true });
      worker.postMessage('activate');
    });
  };
  ready(registration.waiting);
  registration.addEventListener('updatefound', () => {
    const worker = registration.installing;
    worker?.addEventListener('statechange', () => worker.state === 'installed' && ready(worker));
  });
}
