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
  const pace = Object.fromEntries(["crawl", "process", "load", "estimate", "renew"].filter((stage) => run.pace[stage]?.length).map((stage) => [stage, run.pace[stage]]));
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
    run.report && h("section", {}, h("h3", {}, "Report"), report(run.report)),
  ].filter(Boolean);
}

function report(found) {
  const nested = (value) => value !== null && typeof value === "object";
  const alone = Object.entries(found).filter(([, value]) => !nested(value));
  const parts = Object.entries(found).filter(([, value]) => nested(value) && Object.keys(value).length);
  return h(
    "div",
    { class: "report" },
    h("section", { class: "card" }, facts(alone.map(([name, value]) => [words(name), plain(value)]))),
    parts.map(([name, value]) =>
      h("section", { class: "card" }, h("h4", {}, words(name)), Array.isArray(value) ? h("ul", {}, value.map((one) => h("li", {}, plain(one)))) : facts(Object.entries(value).map(([key, inner]) => [words(key), plain(inner)]))),
    ),
  );
}

const words = (name) => name.replaceAll("_", " ");

/** A value of the report as text; what a website may have said in it keeps its own direction. */
function plain(value) {
  if (value === null || value === "") return "–";
  if (typeof value !== "object") return crawled(typeof value === "number" ? value.toLocaleString("en") : String(value));
  return crawled(
    Object.entries(value)
      .filter(([, inner]) => inner !== null && inner !== "")
      .map(([key, inner]) => (Array.isArray(value) ? "" : `${words(key)} `) + (typeof inner === "object" ? JSON.stringify(inner) : inner))
      .join(", "),
  );
}
