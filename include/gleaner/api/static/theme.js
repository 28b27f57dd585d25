// Light or dark, and the direction of writing: as the window of Airflow around this one has them, else as the browser.

export function follow() {
  const root = document.documentElement;
  let around = null;
  try {
    if (window.parent !== window) around = window.parent.document.documentElement;
  } catch {
    around = null;
  }
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  function apply() {
    const named = around?.dataset.theme ?? (around?.classList.contains("dark") ? "dark" : around?.classList.contains("light") ? "light" : "");
    root.dataset.theme = named === "dark" || named === "light" ? named : dark.matches ? "dark" : "light";
    root.dir = around?.dir === "rtl" ? "rtl" : "ltr";
  }
  dark.addEventListener("change", apply);
  if (around) new MutationObserver(apply).observe(around, { attributes: true, attributeFilter: ["class", "data-theme", "dir"] });
  apply();
}
