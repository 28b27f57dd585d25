// Loads the page's modules, and says so when one of them does not come: an empty page would say nothing.

const PATIENCE_MS = 10_000;
const view = document.getElementById("view");
view.querySelector(".late").remove(); // it is for when not even this file comes

function say(text) {
  const problem = document.createElement("p");
  problem.className = "problem";
  problem.setAttribute("role", "alert");
  problem.textContent = text;
  const again = document.createElement("button");
  again.type = "button";
  again.textContent = "Load it again";
  again.addEventListener("click", () => location.reload());
  view.replaceChildren(problem, again);
}

const late = setTimeout(() => say("A part of this page does not come: the server is busy. It is shown when it is there."), PATIENCE_MS);

import("./main.js")
  .then((main) => {
    clearTimeout(late);
    return main.begin();
  })
  .catch(() => {
    clearTimeout(late);
    say("A part of this page could not be loaded. Load it again; if that does not help, log in to Airflow again.");
  });
