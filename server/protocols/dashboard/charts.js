// Charts: lines, stacked areas and bars of a few series. Shapes are SVG without text; words stand beside them.

import { drawn, make } from "./elements.js";
import { WINDOW_S } from "./history.js";

const WIDTH = 300;
const HEIGHT = 100;
const LEAST_S = 60;

function framed(title, value, ...inside) {
  return make("figure", { className: "card" }, make("figcaption", {}, title, make("span", {}, value)), ...inside);
}

const legend = series => make("ul", { className: "legend" }, ...series.map(one => make("li", { className: `c${one.colour}` }, one.name)));

// The seconds that a chart shows: those of which there are figures.
const spanOf = times => Math.min(Math.max(LEAST_S, ...times), WINDOW_S);

function plot(label, top, span, ...shapes) {
  const svg = drawn("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": label }, ...shapes);
  const axis = make("div", { className: "axis", ariaHidden: "true" }, make("span", {}, span < 120 ? `${Math.round(span)} s ago` : `${(span / 60).toFixed(1).replace(".0", "")} min ago`), make("span", {}, "now"));
  return [make("div", { className: "plot" }, make("span", { className: "top" }, top), svg), axis];
}

// A scale's end at or above a value: 1, 2 or 5 times a power of ten.
function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map(one => one * power).find(one => one >= value * 0.999);
}

// series: [{name, colour, values}], one value for each of `times` (seconds before now); NaN is a gap.
export function lines(title, value, times, series, write) {
  const most = Math.max(...series.flatMap(one => one.values.filter(Number.isFinite)));
  if (!(most > 0)) return nothing(title, "no requests in this time");
  const end = roundUp(most);
  const span = spanOf(times);
  const shapes = series.map(one => {
    let pen = "M";
    const steps = one.values.map((height, index) => {
      if (!Number.isFinite(height)) { pen = "M"; return ""; }
      const step = `${pen}${at(times[index], span)} ${(HEIGHT - (HEIGHT * height) / end).toFixed(1)}`;
      pen = "L";
      return step;
    });
    return drawn("path", { d: steps.join(""), class: `c${one.colour}` });
  });
  return framed(title, value, ...plot(`${title}: ${value}`, write(end), span, ...shapes), legend(series));
}

// The same, with each series on top of those before it.
export function stacked(title, value, times, series, write) {
  const sums = times.map((_, index) => series.reduce((all, one) => all + (one.values[index] || 0), 0));
  const most = Math.max(...sums);
  if (!(most > 0)) return nothing(title, "no requests in this time");
  const end = roundUp(most);
  const span = spanOf(times);
  const below = times.map(() => 0);
  const height = value_ => (HEIGHT - (HEIGHT * value_) / end).toFixed(1);
  const shapes = series.map(one => {
    const under = times.map((time, index) => `${at(time, span)} ${height(below[index])}`).reverse();
    times.forEach((_, index) => { below[index] += one.values[index] || 0; });
    const over = times.map((time, index) => `${at(time, span)} ${height(below[index])}`);
    return drawn("path", { d: `M${[...over, ...under].join("L")}Z`, class: `area c${one.colour}` });
  });
  const seen = series.filter(one => one.values.some(value_ => value_ > 0));
  return framed(title, value, ...plot(`${title}: ${value}`, write(end), span, ...shapes), legend(seen));
}

// rows: [name, size, text]; the longest bar is the largest size.
// ``whole``: the size of a full bar; without it the largest row fills it.
export function bars(title, value, rows, otherwise, whole = 0, colour = 5) {
  if (!rows.length) return nothing(title, otherwise);
  return framed(title, value, barList(rows, colour, whole));
}

export function barList(rows, colour = 5, whole = 0) {
  const most = whole || Math.max(...rows.map(([, size]) => size));
  const list = make("div", { className: "bars" });
  for (const [name, size, text] of rows) {
    const fill = make("div", { className: `fill c${colour}` });
    fill.style.width = `${most > 0 ? Math.min(Math.max((100 * size) / most, 0), 100) : 0}%`;
    list.append(make("span", {}, name), make("div", { className: "track", ariaHidden: "true" }, fill), make("span", {}, text));
  }
  return list;
}

export const nothing = (title, text) => framed(title, "", make("p", { className: "soft" }, text));

const at = (before_s, span) => (WIDTH - (WIDTH * before_s) / span).toFixed(1);
