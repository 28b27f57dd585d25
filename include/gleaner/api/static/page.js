// One page: what was read from it beside the chunks that became of it.

import { get, post, trigger } from "./api.js";
import { ask } from "./dialog.js";
import { badge, count, crawled, facts, h, outside, when } from "./dom.js";

export const needsTenant = true;

export async function render(context) {
  const { tenant, parameters, address, me } = context;
  const page = await get("page", { tenant, page: parameters.page });
  return [
    h("div", { class: "title" }, h("h2", {}, crawled(page.title || page.url)), badge(page.state, page.state)),
    facts([
      ["Address", outside(page.url)],
      ["Website", h("a", { href: address("pages", { tenant, source: page.source }) }, crawled(page.website, "bdi", { dir: "ltr" }))],
      ["Reason", page.reason && crawled(page.reason)],
      ["Leads to", page.alias_of && outside(page.alias_of)],
      ["HTTP status", page.http_status],
      ["Language", page.language],
      ["Words", page.words?.toLocaleString("en")],
      ["Changed", when(page.fetched_at)],
      ["Checked", when(page.checked_at)],
      ["First seen", when(page.first_seen_at)],
    ]),
    page.failures.length > 0 && failed(page),
    h(
      "div",
      { class: "buttons" },
      me.may.maintain && page.failures.some(({ stage }) => stage !== "crawl") && h("button", { type: "button", onclick: () => replay({ tenant, page: page.page }, context) }, "Replay its failures"),
      me.may.edit && !page.is_start && h("button", { type: "button", class: "danger", onclick: () => forget(page, context) }, "Forget this page"),
    ),
    h("div", { class: "beside" }, await text(page, tenant), chunks(page, tenant)),
  ].filter(Boolean);
}

function failed(page) {
  return h(
    "section",
    { "aria-label": "Failures" },
    h("ul", { class: "rows" }, page.failures.map((failure) => h("li", { class: "row" }, badge(failure.stage, "bad"), crawled(failure.reason, "strong"), failure.item && h("span", { class: "note" }, failure.item), failure.detail && crawled(failure.detail, "span"), h("span", { class: "note" }, count(failure.attempts, "try", "tries"), ", last ", when(failure.last_at))))),
  );
}

async function text(page, tenant) {
  const shown = crawled(page.text || "Nothing was read from this page.", "pre", { tabindex: 0, "aria-label": "Text that was read", role: "region" });
  const note = h("p", { class: "note" }, page.is_cut ? "Only the beginning is shown." : "");
  const sent = h("button", { type: "button" }, "Show what the website sent");
  sent.addEventListener("click", async () => {
    sent.disabled = true;
    try {
      const found = await get("snapshot", { tenant, page: page.page });
      shown.textContent = found.text;
      shown.setAttribute("aria-label", "What the website sent");
      note.replaceChildren(`${found.content_type || "no content type"}, ${count(found.bytes, "byte")}, fetched `, when(found.fetched_at), found.is_cut ? "; only the beginning is shown." : ".");
    } catch (error) {
      note.textContent = error.message;
    }
  });
  return h("section", {}, h("div", { class: "title" }, h("h3", {}, "Text"), page.fetched_at && sent), note, shown);
}

function chunks(page, tenant) {
  const list = h("ol", { class: "chunks" });
  const add = (found) => list.append(...found.map(chunk));
  const more = h("button", { type: "button" }, "Show more");
  let next = page.next;
  more.hidden = next === null;
  more.addEventListener("click", async () => {
    const found = await get("chunks", { tenant, page: page.page, ...next });
    add(found.chunks);
    next = found.next;
    more.hidden = next === null;
  });
  add(page.chunks);
  const tokens = page.chunks.reduce((sum, { tokens: one }) => sum + one, 0);
  return h("section", {}, h("h3", {}, "Chunks"), h("p", { class: "note" }, page.chunks.length ? `${count(page.chunks.length, "chunk")}, ${count(tokens, "token")}${next ? " so far" : ""}, vectors of ${page.model}` : "There are none."), list, more);
}

function chunk(found) {
  return h(
    "li",
    { class: "card", id: `chunk-${found.type}-${found.index}` },
    h("p", { class: "crumbs" }, crawled(found.section || "(no heading)")),
    h("p", {}, badge(`${found.type} ${found.index}`), " ", badge(count(found.tokens, "token")), " ", badge(count(found.words, "word")), " ", badge(found.language), " ", found.has_vector ? badge("vector", "chunked") : badge("no vector", "bad")),
    crawled(found.text, "div", { class: "text" }),
  );
}

export async function replay(what, { tell, again }) {
  const done = await ask({
    title: "Try again?",
    action: "Replay",
    body: [h("p", {}, "The failures are due at once, those too that were given up, and maintain_knowledge is started. A page that could not be fetched needs a crawl.")],
    act: async () => {
      const { failures } = await post("replay", what);
      if (failures) await trigger("maintain_knowledge", {});
      tell(failures ? `${count(failures, "failure")} will be tried again by the run that was started.` : "There was nothing to try again.");
    },
  });
  if (done) again();
}

async function forget(page, { tenant, go }) {
  const done = await ask({
    title: "Forget this page?",
    action: "Forget",
    danger: true,
    body: [
      crawled(page.url, "p", { dir: "ltr" }),
      h("p", {}, "Its snapshots, document, chunks, vectors and failures are removed for good."),
      h("p", {}, "It stays away: crawls leave it out until somebody lets it in again under Forgotten. Pages that only this one links to are no longer found, and go as pages do that a website has no more."),
    ],
    act: async () => {
      await post("forget/page", { tenant, page: page.page });
    },
  });
  if (done) go("pages", { tenant, source: page.source }, "Forgotten.");
}
