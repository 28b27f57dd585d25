// The pages of one website.

import { get } from "./api.js";
import { badge, count, crawled, h, outside, screenfuls, when } from "./dom.js";

export const needsTenant = true;
const STATES = ["", "chunked", "completed", "fetched", "discovered", "failed", "skipped", "gone"];

export async function render({ tenant, parameters, address, go }) {
  const { source, state = "", containing = "" } = parameters;
  const found = await get("sources", { tenant, source });
  if (!found.sources.length) return [h("h2", {}, "Pages"), h("p", { class: "empty" }, "There is no such website.")];
  const [website] = found.sources;
  const total = Object.values(website.states ?? {}).reduce((sum, pages) => sum + pages, 0);
  const option = (name) => h("option", { value: name, selected: name === state }, name === "" ? `all (${total.toLocaleString("en")})` : `${name} (${(website.states?.[name] ?? 0).toLocaleString("en")})`);
  const list = await screenfuls(
    async (next) => {
      const answer = await get("pages", { tenant, source, state, containing, after: next });
      return { rows: answer.pages.map((page) => row(page, tenant, address)), next: answer.next };
    },
    { label: "Pages", empty: "No page is like that." },
  );
  return [
    h("div", { class: "title" }, h("h2", {}, "Pages of ", crawled(website.url, "bdi", { dir: "ltr" })), badge(tenant)),
    h(
      "form",
      {
        class: "filter",
        role: "search",
        "aria-label": "Pages",
        onsubmit: (event) => {
          event.preventDefault();
          go("pages", { tenant, source, ...Object.fromEntries(new FormData(event.target)) });
        },
      },
      h("label", {}, h("span", {}, "State"), h("select", { name: "state" }, STATES.map(option))),
      h("label", {}, h("span", {}, "Address contains"), h("input", { name: "containing", value: containing, maxlength: 500, spellcheck: "false", dir: "ltr" })),
      h("button", { type: "submit" }, "Show"),
    ),
    list,
  ];
}

function row(page, tenant, address) {
  return h(
    "li",
    { class: "row" },
    h("a", { href: address("page", { tenant, page: page.page }), class: "main" }, crawled(page.title || page.url)),
    h("div", { class: "wide" }, outside(page.url)),
    badge(page.state, page.state),
    page.reason && crawled(page.reason, "span", { class: "note" }),
    page.http_status && page.http_status !== 200 && h("span", { class: "note" }, `HTTP ${page.http_status}`),
    page.alias_of && h("span", { class: "note" }, "→ ", crawled(page.alias_of, "bdi", { dir: "ltr" })),
    page.language && h("span", { class: "note" }, `language ${page.language}`),
    page.chunks !== null && h("span", { class: "note" }, count(page.chunks, "chunk")),
    h("span", { class: "note" }, page.fetched_at ? "changed " : "checked ", when(page.fetched_at ?? page.checked_at)),
  );
}
