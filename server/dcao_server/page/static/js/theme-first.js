// Runs before the first paint, so that a chosen theme never flashes the other one. Without a choice the system decides.
(() => {
  try {
    const chosen = localStorage.getItem("dcao-theme");
    if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
  } catch {
    // A browser that forbids storage still follows the system.
  }
})();
