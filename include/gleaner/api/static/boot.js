// Loads the page's modules, and says so when one of them did not come: an empty page would say nothing.

import("./main.js").catch(() => {
  const problem = document.createElement("p");
  problem.className = "problem";
  problem.setAttribute("role", "alert");
  problem.textContent = "A part of this page could not be loaded. Reload it; if that does not help, log in to Airflow again.";
  document.getElementById("view").replaceChildren(problem);
});
