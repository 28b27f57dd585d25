// Asks our own app and Airflow's API, both with the session of whoever looks on.

const HERE = new URL(".", location.href);

/** An answer that is none: `message` is for people. */
export class Refusal extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function answer(request) {
  let response;
  try {
    response = await fetch(request);
  } catch {
    throw new Refusal(0, "The server does not answer. Try again in a moment.");
  }
  if (response.ok) return response.json();
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
  return answer(new Request(url, { headers: { Accept: "application/json" } }));
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
  );
}
