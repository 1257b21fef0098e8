import './styles/tokens.css';
import './styles/base.css';
import { mount } from 'svelte';
import App from './App.svelte';

// Browsers that know modules but lack what the app needs get the plain page too.
if ('WebSocket' in window && 'ResizeObserver' in window && 'HTMLDialogElement' in window) {
  mount(App, { target: document.getElementById('app')! });
  if (import.meta.env.PROD && 'serviceWorker' in navigator && isSecureContext) {
    addEventListener('load', () => void navigator.serviceWorker.register('/worker.js').catch(() => {}));
  }
} else {
  document.getElementById('unsupported')!.hidden = false;
}
