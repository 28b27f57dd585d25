// What a reader would find, with what speaks for each hit.

import { get } from "./api.js";
import { badge, crawled, decimals, h, outside } from "./dom.js";

export const needsTenant = true;

export async function render({ tenant, parameters, address, go }) {
  const { query = "", by = "both" } = parameters;
  const form = h(
    "form",
    {
      class: "filter",
      role: "search",
      "aria-label": "Knowledge",
      onsubmit: (event) => {
        event.preventDefault();
        go("search", { tenant, ...Object.fromEntries(new FormData(event.target)) });
      },
    },
    h("label", { class: "grow" }, h("span", {}, "Question"), h("input", { name: "query", type: "search", value: query, required: true, maxlength: 2000, dir: "auto" })),
    h("label", {}, h("span", {}, "By"), h("select", { name: "by" }, h("option", { value: "both", selected: by === "both" }, "meaning and words"), h("option", { value: "words", selected: by === "words" }, "words alone"))),
    h("button", { type: "submit", class: "primary" }, "Search"),
  );
  const head = [h("h2", {}, "Search"), form];
  if (!query) return head;
  const found = await get("search", { tenant, query, by });
  const best = Math.max(...found.hits.map(({ score }) => score), 1e-9);
  const words = Math.max(...found.hits.map(({ lexical }) => lexical ?? 0), 1e-9);
  return [
    ...head,
    found.note && h("p", { class: "note" }, found.note),
    found.hits.length === 0 && h("p", { class: "empty" }, "Nothing was found."),
    h("ol", { class: "rows", "aria-label": "Hits" }, found.hits.map((hit) => row(hit, best, words, tenant, address))),
  ].filter(Boolean);
}

function row(hit, best, words, tenant, address) {
  const how = hit.dense === null ? "words" : hit.lexical === null ? "meaning" : "meaning and words";
  return h(
    "li",
    { class: "card" },
    h("h3", {}, h("a", { href: address("page", { tenant, page: hit.page }) }, crawled(hit.section || hit.url))),
    h("p", {}, outside(hit.url)),
    h("div", { class: "scores" }, score("fused", hit.score, hit.score / best), score("dense", hit.dense, hit.dense), score("lexical", hit.lexical, (hit.lexical ?? 0) / words), h("span", { class: "note" }, `found by ${how}`), badge(`${hit.type} ${hit.index}`), badge(hit.language)),
    crawled(hit.text, "div", { class: "text" }),
  );
}

function score(name, value, share) {
  return h("div", { class: "score" }, h("span", {}, `${name} ${decimals(value)}`), h("meter", { min: 0, max: 1, value: Math.max(0, Math.min(1, share ?? 0)), "aria-label": name }));
}
