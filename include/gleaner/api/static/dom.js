// Builds elements. Text goes in as text nodes only: nothing here, or anywhere in these files, parses markup.

const EVENTS = /^on[a-z]+$/;

/** An element with attributes and children; a function as `onclick` and the like becomes a listener. */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (EVENTS.test(name)) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Text of a website: its own direction, whatever that of the page is. */
export function crawled(text, tag = "bdi", attributes = {}) {
  return h(tag, { dir: "auto", ...attributes }, text);
}

/** A link to a crawled address; plain text when it is none that a browser should open. */
export function outside(address, text = address) {
  let url;
  try {
    url = new URL(address);
  } catch {
    return crawled(text);
  }
  if (url.protocol !== "http:" && url.protocol !== "https:") return crawled(text);
  return h(
    "a",
    {
      href: url.href,
      target: "_blank",
      rel: "noopener noreferrer",
      class: "outside",
      dir: "ltr",
      onclick: (event) => {
        if (leave(url.href, "_blank")) event.preventDefault();
      },
    },
    text,
    h("span", { class: "hidden" }, " (opens in a new tab)"),
  );
}

/** Follow a link from the window around this one: Airflow's frame may not open tabs or leave its place by itself. */
export function leave(href, target) {
  if (window.parent === window) return false;
  try {
    const link = window.parent.document.createElement("a");
    link.href = href;
    link.target = target;
    link.rel = "noopener noreferrer";
    link.click();
    return true;
  } catch {
    return false;
  }
}

const UNITS = [
  ["day", 86400],
  ["hour", 3600],
  ["minute", 60],
  ["second", 1],
];
const RELATIVE = new Intl.RelativeTimeFormat("en", { numeric: "auto" });

/** A moment as "3 hours ago", with the moment itself on top of it; a dash when there was none. */
export function when(iso) {
  if (!iso) return h("span", {}, "never");
  const seconds = (Date.parse(iso) - Date.now()) / 1000;
  const [unit, size] = UNITS.find(([, one]) => Math.abs(seconds) >= one) ?? UNITS[3];
  const exact = new Date(iso).toISOString().replace("T", " ").slice(0, 19) + " UTC";
  return h("time", { datetime: iso, title: exact }, RELATIVE.format(Math.trunc(seconds / size), unit));
}

export const number = (value) => (value ?? 0).toLocaleString("en");
export const decimals = (value, places = 3) => (value === null || value === undefined ? "–" : value.toFixed(places));
export const count = (value, one, many = one + "s") => `${number(value)} ${value === 1 ? one : many}`;

export const badge = (text, kind = "") => h("span", { class: `badge ${kind}` }, text);

/** A list of facts: pairs of a name and text or an element; those without a value are left out. */
export function facts(pairs) {
  return h(
    "dl",
    { class: "facts" },
    pairs
      .filter(([, value]) => value !== null && value !== undefined && value !== "")
      .map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))),
  );
}

/** The list of a view, with a button for the next screenful. `load(next)` gives {rows, next}. */
export async function screenfuls(load, { empty, label }) {
  const list = h("ul", { class: "rows", "aria-label": label });
  const more = h("button", { type: "button", class: "more" }, "Show more");
  const box = h("div", {}, list, more);
  let next;
  async function show() {
    more.disabled = true;
    const found = await load(next);
    const first = found.rows[0];
    list.append(...found.rows);
    if (next !== undefined && first) {
      first.tabIndex = -1;
      first.focus();
    }
    next = found.next;
    more.hidden = next === null;
    more.disabled = false;
  }
  more.addEventListener("click", show);
  await show();
  if (!list.children.length) {
    list.remove();
    box.prepend(h("p", { class: "empty" }, empty));
  }
  return box;
}
