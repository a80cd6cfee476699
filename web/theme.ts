/**
 * Light or dark: the system's choice until the reader makes one. A classic script of its own in the head, so that the
 * first paint already has the right colours; inline scripts are against the content security policy.
 */
const stored = 'shiftadd-theme';
const page = document.documentElement;

function remembered(): string | null {
  try {
    return localStorage.getItem(stored);
  } catch {
    return null; // storage may be forbidden
  }
}

function isDark(): boolean {
  const chosen = page.dataset['theme'];
  return chosen === undefined ? matchMedia('(prefers-color-scheme: dark)').matches : chosen === 'dark';
}

const before = remembered();
if (before === 'light' || before === 'dark') page.dataset['theme'] = before;

document.addEventListener('DOMContentLoaded', () => {
  const toggle = document.getElementById('theme')!;
  const show = (): void => toggle.setAttribute('aria-pressed', String(isDark()));
  show();
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', show);
  toggle.addEventListener('click', () => {
    const next = isDark() ? 'light' : 'dark';
    page.dataset['theme'] = next;
    show();
    try {
      localStorage.setItem(stored, next);
    } catch {
      // Then the choice lasts as long as the page.
    }
  });
});

export {};
