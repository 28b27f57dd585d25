// What failed and is not mended.

import { get } from "./api.js";
import { badge, count, crawled, h, outside, screenfuls, when } from "./dom.js";
import { replay } from "./page.js";

export const needsTenant = true;

export async function render(context) {
  const { tenant, address, me } = context;
  const list = await screenfuls(
    async (next = {}) => {
      const found = await get("failures", { tenant, ...next });
      return { rows: found.failures.map((failure) => row(failure, context, address)), next: found.next };
    },
    { label: "Failures", empty: "Nothing failed that is not mended." },
  );
  const any = list.querySelector("li") !== null;
  return [h("div", { class: "title" }, h("h2", {}, "Failures"), any && me.may.maintain && h("button", { type: "button", class: "primary", onclick: () => replay({ tenant }, context) }, "Replay all")), list];
}

function row(failure, context, address) {
  const { tenant, me } = context;
  return h(
    "li",
    { class: "row" },
    h("a", { class: "main", href: address("page", { tenant, page: failure.page }) }, crawled(failure.reason)),
    h("div", { class: "wide" }, outside(failure.url)),
    badge(failure.stage, "bad"),
    failure.item && h("span", { class: "note" }, failure.item),
    failure.detail && crawled(failure.detail, "span"),
    h("span", { class: "note" }, count(failure.attempts, "try", "tries"), ", last ", when(failure.last_at)),
    me.may.maintain && failure.stage !== "crawl" && h("button", { type: "button", onclick: () => replay({ tenant, page: failure.page, stage: failure.stage }, context) }, "Replay", h("span", { class: "hidden" }, ` ${failure.url}`)),
  );
}
