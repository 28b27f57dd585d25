// Asks our own app and Airflow's API, both with the session of whoever looks on.

const HERE = new URL(".", location.href);
const PATIENCE_MS = 20_000; // a view takes five seconds of the database at most
const CHANGE_PATIENCE_MS = 120_000; // what is being changed is not asked for twice lightly

/** An answer that is none: `message` is for people. */
export class Refusal extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function answer(request, patience) {
  let response;
  const late = new AbortController();
  const timer = setTimeout(() => late.abort(), patience);
  try {
    response = await fetch(request, { signal: late.signal });
    if (response.ok) return await response.json();
  } catch {
    throw new Refusal(0, late.signal.aborted ? `The server did not answer within ${patience / 1000} seconds. ${request.method === "GET" ? "Try again in a moment." : "Whether it was done is not known: look before you try again."}` : "The server does not answer. Try again in a moment.");
  } finally {
    clearTimeout(timer);
  }
  let detail = "";
  try {
    const body = await response.json();
    detail = typeof body.detail === "string" ? body.detail : JSON.stringify(body.detail ?? body);
  } catch {
    detail = response.statusText;
  }
  if (response.status === 401) detail = "Your session is over. Log in to Airflow again, then reload this page.";
  if (response.status === 403) detail = `You may not do this: ${detail}`;
  throw new Refusal(response.status, detail);
}

export function get(path, parameters = {}) {
  const url = new URL(`api/${path}`, HERE);
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== undefined && value !== null && value !== "") url.searchParams.set(name, value);
  }
  return answer(new Request(url, { headers: { Accept: "application/json" } }), PATIENCE_MS);
}

export function post(path, body) {
  return send(new URL(`api/${path}`, HERE), body);
}

/** Start a run of a DAG, by Airflow's own API: it asks for the permission and writes the audit log. */
export function trigger(dag, conf) {
  return send(new URL(`../api/v2/dags/${dag}/dagRuns`, HERE), { logical_date: null, conf });
}

export const addressOf = (path, parameters) => {
  const url = new URL(path, HERE);
  url.search = new URLSearchParams(parameters).toString();
  return url.href;
};

function send(url, body) {
  return answer(
    new Request(url, {
      method: "POST",
      headers: { Accept: "application/json", "Content-Type": "application/json", "X-Gleaner": "1" },
      body: JSON.stringify(body),
    }),
    CHANGE_PATIENCE_MS,
  );
}
