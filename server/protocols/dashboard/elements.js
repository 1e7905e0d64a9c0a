// Elements and numbers: how nodes are made and how figures are written. Names are data: they only become text.

const SVG = "http://www.w3.org/2000/svg";

export const byId = id => document.getElementById(id);

// A node with properties, `data-` values in `dataset`, and children; text for whatever is no node.
export function make(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  const { dataset, ...others } = properties;
  Object.assign(node, others);
  Object.assign(node.dataset, dataset || {});
  node.append(...children.filter(one => one !== null && one !== undefined));
  return node;
}

export function drawn(tag, attributes, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

export function number(value) {
  if (!Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size >= 10_000) return value.toLocaleString("en", { notation: "compact", maximumFractionDigits: 1 });
  return value.toLocaleString("en", { maximumFractionDigits: size >= 100 ? 0 : size >= 1 ? 1 : 2 });
}

export function bytes(value) {
  if (!Number.isFinite(value)) return "–";
  const units = ["B", "kB", "MB", "GB", "TB"];
  let at = 0;
  for (; value >= 1000 && at < units.length - 1; at++) value /= 1000;
  return `${value.toLocaleString("en", { maximumFractionDigits: value < 10 && at ? 1 : 0 })} ${units[at]}`;
}

export function seconds(value) {
  if (!Number.isFinite(value)) return "–";
  if (value === 0) return "0 ms";
  if (value >= 1) return `${value.toLocaleString("en", { maximumFractionDigits: value < 10 ? 2 : 0 })} s`;
  const ms = value * 1000;
  return ms >= 1 ? `${ms.toLocaleString("en", { maximumFractionDigits: ms < 10 ? 2 : 0 })} ms`
    : `${(ms * 1000).toLocaleString("en", { maximumFractionDigits: 0 })} µs`;
}

export const percent = value => (Number.isFinite(value) ? `${number(value * 100)}\u00a0%` : "–");

// Replaces the children of a node. The focus goes to the new element with the label of the one that had it.
export function show(node, ...children) {
  const label = node.contains(document.activeElement) ? document.activeElement.ariaLabel : null;
  node.replaceChildren(...children);
  if (label) [...node.querySelectorAll("button")].find(one => one.ariaLabel === label)?.focus();
}

// The options of a select, kept chosen where they stay. `rows`: [value, text].
export function choices(select, rows) {
  const wanted = JSON.stringify(rows);
  if (select.dataset.rows === wanted) return false;
  const before = select.value;
  select.dataset.rows = wanted;
  select.replaceChildren(...rows.map(([value, text]) => make("option", { value }, text)));
  if (rows.some(([value]) => value === before)) select.value = before;
  return select.value !== before;
}
