/** Light, dark, or as the system has it. */
type Theme = 'auto' | 'light' | 'dark';

const stored = localStorage.getItem('pipit:theme');
let choice = $state<Theme>(stored === 'light' || stored === 'dark' ? stored : 'auto');

export const theme = {
  get choice() {
    return choice;
  },
  choose(t: Theme) {
    choice = t;
    if (t === 'auto') localStorage.removeItem('pipit:theme');
    else localStorage.setItem('pipit:theme', t);
  },
  apply() {
    const root = document.documentElement;
    if (choice === 'auto') root.removeAttribute('data-theme');
    else root.setAttribute('data-theme', choice);
    const dark = choice === 'dark' || (choice === 'auto' && matchMedia('(prefers-color-scheme: dark)').matches);
    root.classList.toggle('dark', dark);
    root.classList.toggle('scheme-dark', choice === 'dark');
    root.classList.toggle('scheme-light', choice === 'light');
  },
};
