/* The review queue by keyboard: each key presses the button that carries it. Without this script the buttons do. */
(() => {
  const typing = (element) => element.matches("input:not([type=checkbox]), select, textarea");
  const search = document.querySelector("[data-review-search]");
  let isSent = false;

  document.addEventListener("submit", (event) => {
    if (isSent) event.preventDefault(); // a key held down decides once
    isSent = true;
  });

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    if (event.key === "Escape" && document.activeElement === search) return search.blur();
    if (typing(event.target)) return;
    if (event.key.toLowerCase() === "c" && search) {
      event.preventDefault();
      return search.focus();
    }
    if (event.key === "?") {
      const help = document.querySelector("[data-review-help]");
      help.open = !help.open;
      return;
    }
    const button = document.querySelector(`[data-key~="${CSS.escape(event.key.toLowerCase())}"]`);
    if (!button || button.disabled) return;
    event.preventDefault();
    button.click();
  });

  window.addEventListener("pageshow", () => { isSent = false; });
})();
