// Small charts as SVG elements. Colours come from the style sheet, by class.

const NS = "http://www.w3.org/2000/svg";

function svg(tag, attributes, ...children) {
  const element = document.createElementNS(NS, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  element.append(...children);
  return element;
}

/** A bar of parts: [[class, share], ...], shares of 1. */
export function bar(parts, label, value) {
  let at = 0;
  const rects = parts.map(([kind, share]) => {
    const rect = svg("rect", { x: at * 1000, y: 0, width: share * 1000, height: 10, class: `part ${kind}` });
    at += share;
    return rect;
  });
  const picture = svg("svg", { viewBox: "0 0 1000 10", preserveAspectRatio: "none", "aria-hidden": "true" }, ...rects);
  const box = document.createElement("div");
  box.className = "bar";
  for (const [name, text] of [["role", "progressbar"], ["aria-label", label], ["aria-valuemin", 0], ["aria-valuemax", 100], ["aria-valuenow", Math.round(value * 100)]])
    box.setAttribute(name, String(text));
  box.append(picture);
  return box;
}

/** Lines over time. `series` is {name: [[seconds, value], ...]}; `unit` is said in the label. */
export function lines(title, series, step, unit) {
  const [width, height, start, bottom, top] = [640, 180, 44, 26, 10];
  const all = Object.values(series).flat();
  const last = Math.max(step, ...all.map(([at]) => at + step));
  const most = Math.max(...all.map(([, value]) => value), 1e-9);
  const x = (at) => start + (at / last) * (width - start - 8);
  const y = (value) => height - bottom - (value / most) * (height - bottom - top);
  const text = (content, attributes) => {
    const element = svg("text", attributes);
    element.textContent = content;
    return element;
  };
  const peaks = Object.entries(series).map(([name, points]) => `${name} up to ${round(Math.max(0, ...points.map(([, value]) => value)))}`);
  const picture = svg(
    "svg",
    { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${title}, ${unit}, over ${duration(last)}: ${peaks.join(", ")}`, direction: "ltr" },
    svg("line", { x1: start, y1: y(0), x2: width - 8, y2: y(0), class: "axis" }),
    svg("line", { x1: start, y1: y(most), x2: width - 8, y2: y(most), class: "grid" }),
    text(round(most), { x: start - 6, y: y(most) + 4, class: "tick end" }),
    text("0", { x: start - 6, y: y(0) + 4, class: "tick end" }),
    text("0", { x: start, y: height - 8, class: "tick" }),
    text(duration(last), { x: width - 8, y: height - 8, class: "tick end" }),
    ...Object.entries(series).map(([name, points], index) => svg("path", { d: path(points, step, x, y), class: `line line${index}` })),
  );
  const box = document.createElement("figure");
  const caption = document.createElement("figcaption");
  caption.append(`${title}, ${unit}`);
  Object.keys(series).forEach((name, index) => {
    const key = document.createElement("span");
    key.className = `key key${index}`;
    key.textContent = name;
    caption.append(" ", key);
  });
  box.append(caption, picture);
  return box;
}

/** Steps, back to zero where there are no points. */
function path(points, step, x, y) {
  let drawn = "";
  let before = null;
  for (const [at, value] of points) {
    if (before === null || at - before > step * 1.5) drawn += before === null ? `M${x(at)} ${y(0)}` : `V${y(0)}H${x(at)}`;
    drawn += `V${y(value)}H${x(at + step)}`;
    before = at;
  }
  return drawn === "" ? "" : `${drawn}V${y(0)}`;
}

const round = (value) => (value >= 10 ? value.toFixed(0) : value.toFixed(1));

export function duration(seconds) {
  if (seconds < 100) return `${Math.round(seconds)} s`;
  if (seconds < 6000) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}
