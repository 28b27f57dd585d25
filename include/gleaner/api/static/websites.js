// Websites, each with how far it is, when it is due, and what can be done with it.

import { get, post, trigger } from "./api.js";
import { bar } from "./charts.js";
import { ask, untilDone } from "./dialog.js";
import { badge, count, crawled, h, number, outside, screenfuls, when } from "./dom.js";

const STATES = ["chunked", "completed", "fetched", "discovered", "failed", "skipped", "gone"];
const WORK = ["chunked", "completed", "fetched", "discovered", "failed"];
const POLL = 4000;

export async function render(context) {
  const { tenant, me } = context;
  const cards = new Map();
  const list = await screenfuls(
    async (next = {}) => {
      const found = await get("sources", { tenant, ...next });
      return { rows: found.sources.map((source) => card(source, context, cards)), next: found.next };
    },
    { label: "Websites", empty: tenant ? `Nothing is known of a tenant ${tenant} yet.` : "There is no website yet." },
  );
  const timer = setInterval(() => refresh(cards), POLL);
  context.onLeave(() => clearInterval(timer));
  return [
    h("div", { class: "title" }, h("h2", {}, "Websites"), me.may.ingest && h("button", { type: "button", class: "primary", onclick: () => ingest(context) }, "Ingest a website")),
    list,
  ];
}

/** Only what moves: the websites with a run under way. */
async function refresh(cards) {
  if (document.hidden) return;
  for (const [id, shown] of cards) {
    if (!shown.source.is_under_way) continue;
    try {
      const found = await get("sources", { tenant: shown.source.tenant, source: id });
      if (found.sources.length) shown.update(found.sources[0]);
    } catch {
      return;
    }
  }
}

function card(source, context, cards) {
  const moving = h("div", {});
  const shown = {
    source,
    update(found) {
      shown.source = found;
      moving.replaceChildren(...status(found));
    },
  };
  shown.update(source);
  cards.set(source.source, shown);
  const { address, me } = context;
  const key = { tenant: source.tenant, source: source.source };
  return h(
    "li",
    { class: "card" },
    h("div", { class: "title" }, h("h3", {}, h("a", { href: address("pages", key) }, crawled(source.url, "bdi", { dir: "ltr" }))), badge(source.tenant), source.paused && badge("paused", "warn"), source.is_being_forgotten && badge("being forgotten", "bad")),
    moving,
    h(
      "div",
      { class: "buttons" },
      h("a", { class: "button", href: address("pages", key) }, "Pages"),
      h("a", { class: "button", href: address("runs", key) }, "Runs"),
      me.may.ingest && source.params && !source.is_being_forgotten && button("Refresh", source, () => refreshNow(source, context)),
      me.may.refresh && !source.is_being_forgotten && button(source.paused ? "Resume" : "Pause", source, () => pause(source, context)),
      me.may.edit && button(source.is_being_forgotten ? "Go on forgetting" : "Forget", source, () => forget(source, context), "danger"),
      outside(source.url, "Open"),
    ),
  );
}

const button = (title, source, onclick, kind = "") => h("button", { type: "button", class: kind, onclick }, title, h("span", { class: "hidden" }, ` ${source.url}`));

function status(source) {
  const states = source.states ?? {};
  const work = WORK.reduce((sum, state) => sum + (states[state] ?? 0), 0);
  const share = work ? (states.chunked ?? 0) / work : 0;
  const parts = work ? WORK.map((state) => [state, (states[state] ?? 0) / work]) : [];
  return [
    bar(parts, `Pages that can be searched of ${source.url}`, share),
    h(
      "ul",
      { class: "legend" },
      STATES.filter((state) => states[state]).map((state) => h("li", { class: `key ${state}` }, `${number(states[state])} ${state}`)),
      !Object.keys(states).length && h("li", {}, "no pages yet"),
    ),
    h("p", { class: "note" }, ...timing(source)),
  ];
}

function timing(source) {
  if (source.is_under_way) return ["A run is under way since ", when(source.started_at), "."];
  const crawledLast = source.started_at ? ["Crawled ", when(source.started_at), source.state === "complete" ? "" : ` (${source.state}${source.reason ? ": " + source.reason : ""})`] : ["Never crawled"];
  if (source.paused) return [...crawledLast, "; refreshes are paused."];
  if (source.seconds_between === null) return [...crawledLast, "; never refreshed by itself."];
  if (!source.params) return [...crawledLast, "; refreshed after its first real run."];
  return [...crawledLast, "; refreshed every ", count(+(source.seconds_between / 86400).toFixed(2), "day"), ", next ", Date.parse(source.due_at) < Date.now() ? "with the next run of refresh_websites" : when(source.due_at), "."];
}

async function ingest({ tenant, tell, again }) {
  const field = (name, title, attributes) => h("label", { class: "field" }, h("span", {}, title), h("input", { name, required: true, spellcheck: "false", ...attributes }));
  await ask({
    title: "Ingest a website",
    action: "Ingest",
    body: [
      field("tenant", "Tenant", { value: tenant, pattern: "[a-z0-9][a-z0-9_\\-]{0,62}", title: "1 to 63 of a-z, 0-9, - and _, beginning with a letter or digit", dir: "ltr" }),
      field("url", "Address", { type: "url", placeholder: "https://example.com/", dir: "ltr" }),
      field("max_pages", "Pages at most", { type: "number", value: 200, min: 1, max: 100000, step: 1 }),
      h("p", { class: "note" }, "Everything else as by default; the form of the DAG ingest_website has all of it."),
    ],
    act: async (form) => {
      const asked = Object.fromEntries(new FormData(form));
      const run = await trigger("ingest_website", { tenant: asked.tenant, url: asked.url, max_pages: Number(asked.max_pages) });
      tell(`Started: ${run.dag_run_id}.`);
    },
  });
  again();
}

async function refreshNow(source, { tell, again }) {
  const done = await ask({
    title: "Refresh this website now?",
    action: "Refresh",
    body: [crawled(source.url, "p", { dir: "ltr" }), h("p", {}, "It is crawled again with the Params of its last run. What did not change costs nothing.")],
    act: async () => tell(`Started: ${(await trigger("ingest_website", source.params)).dag_run_id}.`),
  });
  if (done) again();
}

async function pause(source, { tell, again }) {
  const paused = !source.paused;
  const done = await ask({
    title: paused ? "Pause the refreshes?" : "Resume the refreshes?",
    action: paused ? "Pause" : "Resume",
    body: [crawled(source.url, "p", { dir: "ltr" }), h("p", {}, paused ? "refresh_websites leaves it out until you resume it. What is stored stays and can be searched." : "refresh_websites takes it up again when it is due.")],
    act: async () => {
      await post("pause", { tenant: source.tenant, source: source.source, paused });
      tell(paused ? "Paused." : "Resumed.");
    },
  });
  if (done) again();
}

async function forget(source, { tell, again }) {
  let pages = 0;
  const done = await ask({
    title: "Forget this website?",
    action: "Forget",
    danger: true,
    confirm: source.url,
    body: [
      h("p", {}, "Everything that is stored of it is removed for good: pages, snapshots, documents, chunks, vectors, failures, and the accounts of its runs."),
      h("p", {}, "It stays away: no refresh, rebuild or new run takes it in until somebody lets it in again under Forgotten. Airflow keeps its own record of past runs, with their logs."),
    ],
    act: async (_, progress) => {
      await untilDone(
        () => post("forget/source", { tenant: source.tenant, source: source.source, confirm: source.url }),
        (answer) => progress(`${number((pages += answer.pages))} pages removed`),
      );
      tell(`Forgotten, with ${count(pages, "page")}.`);
    },
  });
  if (done || pages) again();
}
