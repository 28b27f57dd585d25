// One run: its report, how fast it went, and how deep its queue was.

import { addressOf, get } from "./api.js";
import { duration, lines } from "./charts.js";
import { badge, crawled, facts, h, leave, when } from "./dom.js";

export const needsTenant = true;
const DAGS = { crawl: "ingest_website", rebuild: "rebuild_knowledge", mend: "maintain_knowledge" };

export async function render({ tenant, parameters, address }) {
  const run = await get("run", { tenant, job: parameters.job });
  const end = run.finished_at ?? run.now;
  const inAirflow = addressOf(`../dags/${DAGS[run.kind]}/runs/${encodeURIComponent(run.run_id)}`, {});
  const pace = Object.fromEntries(Object.entries(run.pace).filter(([, points]) => points.length));
  const waited = run.depth.running.length > 0;
  return [
    h("div", { class: "title" }, h("h2", {}, run.run_id), badge(run.kind), badge(run.state)),
    facts([
      ["Website", h("a", { href: address("pages", { tenant, source: run.source }) }, crawled(run.url, "bdi", { dir: "ltr" }))],
      ["Reason", run.reason && crawled(run.reason)],
      ["Pages to do", run.planned_pages?.toLocaleString("en")],
      ["Batches", run.batches.length ? run.batches.length.toLocaleString("en") : null],
      ["Started", when(run.started_at)],
      [run.finished_at ? "Took" : "So far", duration((Date.parse(end) - Date.parse(run.started_at)) / 1000)],
      ["In Airflow", h("a", { href: inAirflow, target: "_top", onclick: (event) => leave(inAirflow, "_self") && event.preventDefault() }, "tasks and logs")],
    ]),
    Object.keys(pace).length ? lines("Pace", pace, run.step, "pages a second") : h("p", { class: "empty" }, "No page was worked on."),
    waited && lines("Queue", { "at work": run.depth.running, waiting: run.depth.waiting }, run.step, "batches"),
    run.report && h("section", {}, h("h3", {}, "Report"), h("div", { class: "report" }, Object.entries(run.report).map(([name, value]) => part(name, value)))),
  ].filter(Boolean);
}

function part(name, value) {
  const title = name.replaceAll("_", " ");
  if (value === null || typeof value !== "object") return facts([[title, crawled(String(value))]]);
  const rows = Object.entries(value).map(([key, inner]) => [key.replaceAll("_", " "), crawled(typeof inner === "object" && inner !== null ? JSON.stringify(inner) : String(inner))]);
  return h("section", { class: "card" }, h("h4", {}, title), rows.length ? facts(rows) : h("p", { class: "note" }, "none"));
}
