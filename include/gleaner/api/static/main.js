// The frame of the page: which view the address asks for, whose tenant it is, and what is said about the last change.

import { get } from "./api.js";
import { count, h, number } from "./dom.js";
import { follow } from "./theme.js";
import * as failures from "./failures.js";
import * as forgotten from "./forgotten.js";
import * as page from "./page.js";
import * as pages from "./pages.js";
import * as run from "./run.js";
import * as runs from "./runs.js";
import * as search from "./search.js";
import * as tenants from "./tenants.js";
import * as websites from "./websites.js";

const VIEWS = { websites, failures, search, runs, forgotten, tenants, pages, page, run };
const TABS = [["websites", "Websites"], ["failures", "Failures"], ["search", "Search"], ["runs", "Runs"], ["forgotten", "Forgotten"], ["tenants", "Tenants"]];

const view = document.getElementById("view");
const told = document.getElementById("told");
let me = null; // who looks on, and which buttons are for them; no view is shown before
let turn = 0;
let stop = () => {};
let news = ""; // of a change that leads to another view

/** The address of a view: kept behind the #, so that it can be sent to somebody else. */
export function address(name, parameters = {}) {
  const kept = Object.entries(parameters).filter(([, value]) => value !== undefined && value !== null && value !== "");
  return `#${name}?${new URLSearchParams(kept)}`;
}

function where() {
  const [name, query] = location.hash.slice(1).split("?");
  return { name: Object.hasOwn(VIEWS, name) ? name : "websites", parameters: Object.fromEntries(new URLSearchParams(query ?? "")) };
}

function tell(text, kind = "done") {
  told.replaceChildren(text ? h(Array.isArray(text) ? "div" : "p", { class: kind }, text) : "");
}

/** Instead of an empty view: what went wrong, and a button that tries it again. */
function failed(error, retry) {
  const again = h("button", { type: "button", onclick: () => retry() }, "Try again");
  view.replaceChildren(h("h2", {}, "This did not work"), h("p", { class: "problem", role: "alert" }, error.message), again);
  view.removeAttribute("aria-busy");
}

async function show() {
  const mine = ++turn;
  stop();
  stop = () => {};
  const { name, parameters } = where();
  const tenant = parameters.tenant ?? "";
  document.getElementById("tenant").value = tenant;
  tabs(name, tenant);
  view.setAttribute("aria-busy", "true");
  glance(tenant);
  const needed = VIEWS[name].needsTenant && !tenant;
  try {
    const context = {
      me,
      parameters,
      tenant,
      tell,
      address,
      again: () => show(),
      go: (to, what, text = "") => {
        news = text;
        location.hash = address(to, what);
      },
      onLeave: (undo) => (mine === turn ? (stop = undo) : undo()),
    };
    const content = needed ? [h("h2", {}, "Whose?"), h("p", { class: "empty" }, "Name a tenant above; the view Tenants lists them.")] : await VIEWS[name].render(context);
    if (mine !== turn) return;
    view.replaceChildren(...[content].flat());
  } catch (error) {
    if (mine !== turn) return;
    failed(error, show);
  }
  view.removeAttribute("aria-busy");
}

function tabs(current, tenant) {
  const shown = { pages: "websites", page: "websites", run: "runs" }[current] ?? current;
  document.getElementById("tabs").replaceChildren(
    ...TABS.map(([name, title]) => h("a", { href: address(name, name === "tenants" ? {} : { tenant }), "aria-current": name === shown ? "page" : null }, title)),
  );
}

async function glance(tenant) {
  const box = document.getElementById("glance");
  let found;
  try {
    found = await get("glance", { tenant });
  } catch {
    box.replaceChildren();
    return;
  }
  const bounded = (value) => (value >= found.most ? `${value.toLocaleString("en")}+` : value.toLocaleString("en"));
  const tile = (title, value, bad, note = null) => h("div", { class: `tile ${bad ? "bad" : "good"}` }, h("span", { class: "value" }, value), h("span", {}, title), note && h("span", { class: "note" }, note));
  const endpoint = found.endpoint;
  const states = { local: "in this installation", closed: "answers", open: "is left alone", "half-open": "is being tried", unknown: "is not known" };
  box.replaceChildren(
    tile("pages not chunked", number(found.pages_not_chunked), found.pages_not_chunked > 0),
    tile("chunks without vector", number(found.chunks_without_vector), found.chunks_without_vector > 0),
    tile("failures", number(found.failures), found.failures > 0, found.given_up ? `${bounded(found.given_up)} given up` : null),
    tile(`embedding model ${states[endpoint.state]}`, endpoint.state === "local" ? "local" : `breaker ${endpoint.state}`, !["local", "closed"].includes(endpoint.state), endpoint.problem ?? (endpoint.seconds ? `for ${count(Math.ceil(endpoint.seconds), "second")}` : endpoint.name)),
  );
}

async function suggest(containing) {
  const found = await get("tenants", { containing });
  document.getElementById("tenants").replaceChildren(...found.tenants.map(({ tenant }) => h("option", { value: tenant })));
}

/** Called by boot.js, once. */
export async function begin() {
  follow();
  const input = document.getElementById("tenant");
  input.addEventListener("input", () => suggest(input.value.trim()).catch(() => {}));
  document.getElementById("whose").addEventListener("submit", (event) => {
    event.preventDefault();
    const { name, parameters } = where();
    const tab = TABS.some(([one]) => one === name) && name !== "tenants" ? name : "websites";
    const to = address(tab, { ...(tab === "search" ? { query: parameters.query } : {}), tenant: input.value.trim() });
    if (location.hash === to) show();
    else location.hash = to;
  });
  window.addEventListener("hashchange", () => {
    tell(news);
    news = "";
    if (me) show().then(() => view.focus({ preventScroll: true }));
  });
  await enter();
}

async function enter() {
  view.setAttribute("aria-busy", "true");
  suggest("").catch(() => {}); // names to choose from: the page goes without
  try {
    me = await get("me");
  } catch (error) {
    failed(error, enter);
    return;
  }
  await show();
}
