// Dialogs: what a change means is said before it is made. The frame of Airflow has none of the browser's own.

import { h } from "./dom.js";

/**
 * Ask before something is done. `body` is a list of elements, `confirm` a text that has to be typed, `act(form, tell)` does
 * it: an error that it throws is shown and the dialog stays. Resolves to whether it was done.
 */
export function ask({ title, body, action, confirm = null, danger = false, act }) {
  return new Promise((resolve) => {
    const problem = h("p", { class: "problem", role: "alert" });
    const progress = h("p", { role: "status" });
    const go = h("button", { type: "submit", class: danger ? "danger" : "primary" }, action);
    const cancel = h("button", { type: "button" }, "Cancel");
    const typed = confirm === null ? null : h("input", { name: "confirm", autocomplete: "off", spellcheck: "false", dir: "ltr" });
    const heading = h("h2", { id: "dialog-title" }, title);
    const form = h(
      "form",
      { method: "dialog" },
      heading,
      body,
      typed && h("label", { class: "field" }, h("span", {}, "To confirm, type ", h("code", { dir: "ltr" }, confirm)), typed),
      problem,
      progress,
      h("div", { class: "buttons" }, cancel, go),
    );
    const dialog = h("dialog", { "aria-labelledby": "dialog-title" }, form);
    let done = false;
    let busy = false;
    if (typed) {
      go.disabled = true;
      typed.addEventListener("input", () => (go.disabled = typed.value !== confirm));
    }
    cancel.addEventListener("click", () => !busy && dialog.close());
    dialog.addEventListener("cancel", (event) => busy && event.preventDefault());
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(done);
    });
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      problem.textContent = "";
      busy = go.disabled = cancel.disabled = true;
      try {
        await act(form, (text) => (progress.textContent = text));
        done = true;
        dialog.close();
      } catch (error) {
        problem.textContent = error.message;
        busy = go.disabled = cancel.disabled = false;
      }
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** Call a removal that works for some seconds at a time until it is done; `told` says how far it is. */
export async function untilDone(step, told) {
  for (let rounds = 0; ; rounds += 1) {
    const answer = await step();
    told(answer);
    if (answer.done) return answer;
  }
}
