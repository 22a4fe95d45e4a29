// Light or dark: the system's choice unless the person made one here.

const dark = matchMedia("(prefers-color-scheme: dark)");
const listeners = new Set();

export const isDark = () => {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : dark.matches;
};

/** The value of a CSS custom property, for canvases. */
export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

export function onThemeChange(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

const tell = () => {
  for (const listener of listeners) listener();
};

export function toggleTheme() {
  const next = isDark() ? "light" : "dark";
  document.documentElement.dataset.theme = next;
  try {
    localStorage.setItem("dcao-theme", next);
  } catch {
    // Chosen for this page view only.
  }
  tell();
}

dark.addEventListener("change", tell);
