// The models: a table of versions with their states and figures, and the comparisons that run between two of them.

import { reasonOf, versionActions } from "./admin.js";
import { barList } from "./charts.js";
import { byId, make, number, percent, seconds, show } from "./elements.js";
import { RECENT_S, keyOf, quantile, total } from "./history.js";

const COLOURS = { READY: "good", LOADING: "warn", UNLOADING: "warn", UNAVAILABLE: "soft" };
const COLUMNS = ["Requests a second", "p95", "Rows a run", "Waiting rows", "Predicted wait"];
const MOST = 200;
const MOST_SWITCHED = 12;

export function showModels(state, history) {
  const rows = state.models.flatMap(model => model.versions.map(version => [model, version]));
  if (!rows.length) {
    const text = state.phase === "starting" ? "Models are being loaded." : "No model is loaded.";
    show(byId("models"), make("p", { className: "card soft" }, text));
    return;
  }
  const admin = rows.some(([model, version]) => versionActions(state, model, version).length);
  const names = ["Model", "Version", ...COLUMNS, ...(admin ? ["Change"] : [])];
  const head = names.map(name => make("th", { scope: "col", className: COLUMNS.includes(name) ? "number" : "" }, name));
  const body = rows.slice(0, MOST).map(([model, version]) => row(state, history, model, version, admin));
  const table = make("table", { className: "responsive" }, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...body));
  const more = rows.length > MOST ? make("p", { className: "soft" }, `${rows.length - MOST} more versions are not shown`) : null;
  show(byId("models"), make("div", { className: "card scroll" }, table, more ?? ""));
}

function row(state, history, model, version, admin) {
  const { figures, length_s } = history.over(RECENT_S, keyOf(model.name, version.version));
  const gauges = history.gauges(keyOf(model.name, version.version));
  const ready = version.state === "READY";
  const values = [
    number(total(figures.requests) / length_s),
    seconds(quantile(figures.latency, 0.95)),
    number(figures.batch_rows / runs(figures)),
    number(gauges.queue_rows ?? 0),
    seconds(gauges.wait_s ?? 0),
  ];
  return make(
    "tr",
    {},
    make("th", { scope: "row" }, model.name, state.default === model.name ? make("span", { className: "soft" }, " default") : null),
    make("td", { dataset: { label: "Version" } }, ...described(model, version)),
    ...values.map((value, index) => make("td", { className: "number", dataset: { label: COLUMNS[index] } }, ready ? value : "–")),
    admin ? make("td", {}, make("div", { className: "actions" }, ...versionActions(state, model, version))) : null,
  );
}

function described(model, version) {
  const labels = Object.entries(model.labels).filter(([, target]) => target === version.version).map(([label]) => label);
  const notes = [
    model.answers === version.version ? "answers" : "",
    ...labels,
    version.device === "GPU" ? "GPU" : "",
    version.independent === false ? "rows are not shared" : "",
    model.answers === version.version && model.probation_left_s !== null ? `on probation for ${number(model.probation_left_s)} s` : "",
  ].filter(Boolean);
  return [
    `${version.version} `,
    make("span", { className: COLOURS[version.state] ?? "" }, version.state.toLowerCase()),
    version.state === "UNAVAILABLE" ? make("span", { className: "soft" }, ` ${reasonOf(model.name, version.version)}`) : "",
    notes.length ? make("span", { className: "soft" }, ` ${notes.join(", ")}`) : "",
  ];
}

const runs = figures => figures.batches?.["+Inf"] ?? 0;

export function showComparisons(state) {
  const compared = state.models.filter(model => model.comparison).map(model => comparison(model.name, model.comparison));
  const switched = state.models.filter(model => model.switches.length).slice(0, MOST_SWITCHED).map(switches);
  byId("comparisons").hidden = !compared.length && !switched.length;
  byId("compared").replaceChildren(...compared, ...switched);
}

// The newest times at which another version took over, or a comparison ended, and why.
function switches(model) {
  const rows = model.switches.map(one => make("li", {}, `${new Date(one.at).toLocaleTimeString()}: version ${one.version}, ${one.reason}`));
  return make("div", { className: "card" }, make("h3", {}, `${model.name}: newest switches`), make("ul", {}, ...rows));
}

function comparison(name, one) {
  const canary = one.kind === "canary";
  const share = canary ? `${number(one.percent)} % of requests are answered by` : `${number(one.percent)} % of requests are copied to`;
  const head = ["", "Answers", "Faults", "p95"].map((text, index) => make("th", { scope: "col", className: index ? "number" : "" }, text));
  const body = [one.stable, one.other].map((arm, index) =>
    make(
      "tr",
      {},
      make("th", { scope: "row" }, `${arm.version} ${index ? one.kind : "stable"}`),
      make("td", { className: "number" }, number(arm.answers)),
      make("td", { className: "number" }, `${number(arm.faults)}${arm.answers ? ` (${percent(arm.faults / arm.answers)})` : ""}`),
      make("td", { className: "number" }, arm.p95_ms ? seconds(arm.p95_ms / 1000) : "–"),
    ),
  );
  const outcomes = Object.entries(one.outcomes ?? {}).map(([outcome, count]) => [outcome, count, number(count)]);
  const gap = one.largest_difference === null ? "not finite" : String(Number(one.largest_difference?.toPrecision(3)));
  return make(
    "div",
    { className: "card" },
    make("h3", {}, name),
    make("p", {}, `${share} version ${one.other.version}`),
    make("table", {}, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...body)),
    ...(canary ? [] : [make("p", { className: "soft" }, `Answers of both, largest difference ${gap}`)]),
    ...(outcomes.length ? [barList(outcomes, 6)] : []),
  );
}
