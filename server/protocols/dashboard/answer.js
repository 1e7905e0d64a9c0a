// The answer to a tried request: its outputs, and where its time went by the stage times of the server.

import { barList } from "./charts.js";
import { make, seconds } from "./elements.js";
import { told } from "./server.js";
import { nested } from "./tensors.js";

const SHOWN_CHARACTERS = 4_000;
const HIGHEST = 5;
const STAGES = ["receive", "decode", "queue_busy", "queue_timer", "assemble", "compute", "scatter", "encode"];
const ELSEWHERE = 9;

export function answerOf(response, text, took_s) {
  const line = make("p", { className: response.ok ? "good" : "bad" }, `${response.status} ${response.ok ? "answered" : "refused"} in ${seconds(took_s)}`);
  if (!response.ok) return [line, make("p", {}, told(text) || "the response says no more")];
  return [line, ...outputs(text), ...times(response.headers.get("server-timing"), took_s)];
}

function outputs(text) {
  let document_;
  try {
    document_ = JSON.parse(text);
  } catch {
    return [make("pre", { tabIndex: 0 }, shortened(text))];
  }
  if (!Array.isArray(document_?.outputs)) return [make("pre", { tabIndex: 0 }, shortened(JSON.stringify(document_, null, 1)))];
  return document_.outputs.flatMap(one => {
    const title = make("h3", {}, `${one.name} `, make("span", { className: "soft" }, `${one.datatype} [${one.shape.join(", ")}]`));
    const values = make("pre", { tabIndex: 0 }, shortened(JSON.stringify(nested(one.data, one.shape))));
    return [title, ...highest(one), values];
  });
}

// The highest values of one row, as a classifier's scores are read.
function highest({ data, shape }) {
  const scores = shape.length === 2 && shape[0] === 1 && shape[1] > 1 && data.every(one => typeof one === "number");
  if (!scores) return [];
  const rows = data.map((value, index) => [`index ${index}`, value, String(Number(value.toPrecision(5)))]);
  rows.sort((one, other) => other[1] - one[1]);
  return [make("div", { className: "wide" }, barList(rows.slice(0, HIGHEST), 7))];
}

const shortened = text => (text.length > SHOWN_CHARACTERS ? `${text.slice(0, SHOWN_CHARACTERS)}… (${text.length.toLocaleString("en")} characters)` : text);

function times(header, took_s) {
  if (!header) return [make("p", { className: "soft" }, "The response has no stage times.")];
  const rows = header.split(",").map(one => one.trim().split(";")).map(([name, value]) => [name, value ?? ""]);
  const batch = rows.find(([name]) => name === "batch")?.[1].match(/\d+/)?.[0];
  const spent = rows.filter(([, value]) => value.startsWith("dur=")).map(([name, value]) => [name, Number(value.slice(4)) / 1000]);
  const stages = spent.filter(([name]) => STAGES.includes(name));
  const steps = spent.filter(([name]) => !STAGES.includes(name));
  const elsewhere = Math.max(took_s - stages.reduce((all, [, one]) => all + one, 0), 0);
  const parts = [...stages.map(([name, one]) => [name, one, STAGES.indexOf(name)]), ["network and browser", elsewhere, ELSEWHERE]];
  const bar = make("div", { className: "times", ariaHidden: "true" });
  for (const [, one, colour] of parts) {
    const piece = make("i", { className: `c${colour}` });
    piece.style.width = `${(100 * one) / took_s}%`;
    bar.append(piece);
  }
  const words = parts.map(([name, one, colour]) => make("li", { className: `c${colour}` }, `${name} ${seconds(one)}`));
  return [
    make("h3", {}, "Where its time went"),
    bar,
    make("ul", { className: "legend" }, ...words),
    batch ? make("p", { className: "soft" }, batch === "0" ? "The response cache answered: no run was needed." : `Rows of the run that it was in: ${batch}`) : "",
    ...(steps.length ? [make("p", {}, "Steps of the pipeline"), make("div", { className: "wide" }, barList(steps.map(([name, one]) => [name, one, seconds(one)])))] : []),
  ];
}
