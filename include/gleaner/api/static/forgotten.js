// What is kept out, and the way back in.

import { get, post } from "./api.js";
import { ask } from "./dialog.js";
import { badge, crawled, h, when } from "./dom.js";

export const needsTenant = true;

export async function render(context) {
  const { tenant, me } = context;
  const { forgotten } = await get("forgotten", { tenant });
  return [
    h("h2", {}, "Forgotten"),
    h("p", { class: "note" }, "What was removed on request. Crawls leave it out until it is let in again."),
    forgotten.length
      ? h(
          "ul",
          { class: "rows", "aria-label": "Forgotten" },
          forgotten.map((item) =>
            h(
              "li",
              { class: "row" },
              crawled(item.url, "bdi", { dir: "ltr", class: "main" }),
              badge(item.is_website ? "website" : "page"),
              item.is_under_way && badge("still being removed", "bad"),
              h("span", { class: "note" }, "forgotten ", when(item.forgotten_at)),
              me.may.edit && !item.is_under_way && h("button", { type: "button", onclick: () => allow(item, context) }, "Let it in again", h("span", { class: "hidden" }, ` ${item.url}`)),
            ),
          ),
        )
      : h("p", { class: "empty" }, `Nothing of ${tenant} is kept out.`),
  ];
}

async function allow(item, { tenant, tell, again }) {
  const done = await ask({
    title: "Let it in again?",
    action: "Let it in",
    body: [crawled(item.url, "p", { dir: "ltr" }), h("p", {}, item.is_website ? "Nothing comes back by itself: ingest the website again. Its forgotten pages are let in with it." : "Nothing comes back by itself: the next crawl of its website takes it in if it finds it.")],
    act: async () => {
      await post("allow", { tenant, target: item.target_id });
      tell("The next crawl may take it in.");
    },
  });
  if (done) again();
}
