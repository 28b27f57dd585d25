// Tenants; everything of one of them given out, or erased.

import { addressOf, get, post } from "./api.js";
import { ask, untilDone } from "./dialog.js";
import { badge, count, h, number, screenfuls } from "./dom.js";

export async function render(context) {
  const list = await screenfuls(
    async (next) => {
      const found = await get("tenants", { after: next });
      return { rows: found.tenants.map((tenant) => card(tenant, context)), next: found.next };
    },
    { label: "Tenants", empty: "There is no tenant yet; one begins with its first run." },
  );
  return [h("h2", {}, "Tenants"), list];
}

function card(found, context) {
  const { address, me } = context;
  const { tenant } = found;
  const quota = found.quota === null ? "no quota" : `of ${number(found.quota)}`;
  return h(
    "li",
    { class: "card" },
    h("div", { class: "title" }, h("h3", {}, h("a", { href: address("websites", { tenant }) }, tenant)), found.previous_model && badge(`${found.previous_model} is being removed`, "warn")),
    h("p", { class: "note" }, `${count(found.websites, "website")}; readers see ${found.model ?? "nothing yet"}; ${count(found.tokens_of_month, "token")} this month, ${quota}`),
    h(
      "div",
      { class: "buttons" },
      me.may.edit && h("a", { class: "button", href: addressOf("api/export", { tenant }), download: `gleaner-${tenant}.ndjson.gz` }, "Export", h("span", { class: "hidden" }, ` ${tenant}`)),
      me.may.edit && h("button", { type: "button", class: "danger", onclick: () => erase(tenant, context) }, "Erase", h("span", { class: "hidden" }, ` ${tenant}`)),
    ),
  );
}

async function erase(tenant, { tell, again }) {
  let rows = 0;
  const done = await ask({
    title: `Erase everything of ${tenant}?`,
    action: "Erase",
    danger: true,
    confirm: tenant,
    body: [
      h("p", {}, "Every row of this tenant is removed from every table, for good: websites, pages, chunks, vectors, what was forgotten, and what was spent. Export it first if it may be asked for."),
      h("p", {}, "Nothing keeps the name: a later run of this tenant begins anew. Airflow's own records of past runs, their logs, and backups are not removed: what they are and how they go is told when it is done."),
    ],
    act: async (_, progress) => {
      const answer = await untilDone(
        () => post("erase", { tenant, confirm: tenant }),
        (answer) => progress(`${number((rows += answer.rows))} rows removed`),
      );
      tell([h("p", {}, `${tenant} is erased: ${count(rows, "row")}. Not removed, because it is not Gleaner's:`), leftOver(answer)]);
    },
  });
  if (done || rows) again();
}

/** What Airflow and operators still have of a tenant, and how each of it is removed. */
function leftOver({ left, runs }) {
  return h(
    "div",
    {},
    h("ul", {}, left.map(({ what, remove }) => h("li", {}, `${what}: ${remove}`))),
    runs.length > 0 &&
      h(
        "details",
        {},
        h("summary", {}, `${count(runs.length, "run")}: requests and folders`),
        h("pre", { dir: "ltr", tabindex: "0" }, runs.map((run) => `${run.delete}\n${run.logs}\n`).join("")),
      ),
  );
}
