import './styles/tokens.css';
import './styles/base.css';
import { mount } from 'svelte';
import App from './App.svelte';
import { watchForUpdates } from './state/update.svelte';

// Browsers that know modules but lack what the app needs get the plain page too.
if ('WebSocket' in window && 'ResizeObserver' in window && 'HTMLDialogElement' in window) {
  watchForUpdates();
  mount(App, { target: document.getElementById('app')! });
} else {
  document.getElementById('unsupported')!.hidden = false;
}
