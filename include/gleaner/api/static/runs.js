// Runs of a tenant, or of one of its websites.

import { get } from "./api.js";
import { duration } from "./charts.js";
import { badge, count, crawled, h, screenfuls, when } from "./dom.js";

export const needsTenant = true;

export async function render({ tenant, parameters, address }) {
  const { source } = parameters;
  const list = await screenfuls(
    async (next) => {
      const found = await get("runs", { tenant, source, after: next });
      return { rows: found.runs.map((run) => row(run, tenant, address)), next: found.next };
    },
    { label: "Runs", empty: "There was no run yet." },
  );
  return [h("h2", {}, source ? "Runs of this website" : "Runs"), list];
}

function row(run, tenant, address) {
  return h(
    "li",
    { class: "row" },
    h("a", { class: "main", href: address("run", { tenant, job: run.job }) }, run.run_id),
    h("div", { class: "wide" }, crawled(run.url, "bdi", { dir: "ltr" })),
    badge(run.kind),
    badge(run.state, { complete: "chunked", failed: "bad", partial: "warn", running: "fetched" }[run.state]),
    run.reason && crawled(run.reason, "span", { class: "note" }),
    run.planned_pages !== null && h("span", { class: "note" }, count(run.planned_pages, "page"), " to do"),
    h("span", { class: "note" }, "started ", when(run.started_at), run.finished_at ? `, took ${duration((Date.parse(run.finished_at) - Date.parse(run.started_at)) / 1000)}` : ", not over"),
  );
}
