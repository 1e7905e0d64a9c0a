// The overview: the state of the server in a word, what needs attention, and the figures of now.

import { bars } from "./charts.js";
import { byId, bytes, make, number, percent, seconds } from "./elements.js";
import { RECENT_S, quantile, total } from "./history.js";

const FULL = ["overloaded", "server_full"];
const COLOURS = { ready: "good", starting: "warn", draining: "warn", stalled: "bad", failed: "bad" };

export function showStatus(state) {
  byId("version").textContent = state.version;
  const pill = byId("status");
  pill.className = `pill ${COLOURS[state.phase] ?? ""}`;
  pill.textContent = state.phase;
  document.title = state.ready ? "Slipway" : `Slipway: ${state.phase}`;
}

export function showUnreachable(since, why) {
  byId("status").className = "pill bad";
  byId("status").textContent = "no answer";
  document.title = "Slipway: no answer";
  showBanners([["bad", `No state since ${since.toLocaleTimeString()}: ${why}. The page asks again every few seconds.`]]);
}

// Replaced only when they change, since they are read aloud.
export function showBanners(rows) {
  const node = byId("banners");
  if (node.dataset.rows === JSON.stringify(rows)) return;
  node.dataset.rows = JSON.stringify(rows);
  node.replaceChildren(...rows.map(([kind, text]) => make("p", { className: `banner ${kind}` }, text)));
}

// What needs attention: [[kind, text]].
export function attention(state, history) {
  const rows = [];
  const waiting = history.gauges(null).wait_s ?? 0;
  if (state.phase === "starting") rows.push(["info", "The server is starting: models are being loaded."]);
  if (state.phase === "draining") rows.push(["warn", "The server is draining: it answers what it has admitted, then it stops."]);
  if (state.phase === "stalled" || state.phase === "failed") rows.push(["bad", state.reason || "The server has failed; its log says why."]);
  const recent = history.over(RECENT_S, null);
  const refused = full(recent);
  if (refused > 0) {
    const share = refused / (total(recent.figures.requests) + total(recent.server.refused));
    rows.push(["warn", `Overloaded: ${percent(share)} of the last requests were refused. The predicted wait is ${seconds(waiting)}.`]);
  }
  return rows;
}

const full = ({ figures, server }) =>
  FULL.reduce((all, code) => all + (figures.requests?.[code] ?? 0) + (server.refused?.[code] ?? 0), 0);

export function showTiles(history) {
  const recent = history.over(RECENT_S, null);
  const { figures, server, length_s } = recent;
  const gauges = history.gauges(null);
  const newest = history.points.at(-1).server;
  const requests = total(figures.requests) + total(server.refused);
  const failed = requests - (figures.requests?.ok ?? 0);
  const cores = newest.cores || NaN;
  const rows = [
    ["Requests / s", number(requests / length_s)],
    ["p95 latency", seconds(quantile(figures.latency, 0.95))],
    ["Refused or failed", requests ? percent(failed / requests) : "–"],
    ["Waiting rows", number(gauges.queue_rows ?? 0)],
    ["Predicted wait", seconds(gauges.wait_s ?? 0)],
    ["Memory", bytes(newest.resident_bytes)],
    ["CPU", percent(server.cpu_s / length_s / cores), `of ${number(cores)} cores`],
    ["Connections", number(newest.connections)],
  ];
  byId("tiles").replaceChildren(
    ...rows.map(([name, value, unit]) => make("div", {}, make("dt", {}, name), make("dd", {}, value, unit ? make("small", {}, ` ${unit}`) : null))),
  );
}

export function showDevices(state, history) {
  const newest = history.points.at(-1).server;
  const memory = state.versions
    .filter(one => one.memory_bytes)
    .sort((one, other) => other.memory_bytes - one.memory_bytes)
    .slice(0, 12)
    .map(one => [`${one.model} ${one.version}`, one.memory_bytes, bytes(one.memory_bytes)]);
  const { server, length_s, figures } = history.over(RECENT_S, null);
  const used = server.cpu_s / length_s;
  const processor = [
    ["process", used, `${number(used)} of ${number(newest.cores)} cores`],
    ["model runs", figures.run_s / length_s, `${number((figures.run_s ?? 0) / length_s)} at once`],
  ].filter(([, size]) => Number.isFinite(size));
  const gpus = state.gpus.map(one => {
    const all = one.used_bytes + one.free_bytes;
    const busy = one.busy === undefined ? "" : `, ${percent(one.busy)} busy`;
    return [`GPU ${one.index} ${one.name}`, one.used_bytes / all, `${bytes(one.used_bytes)} of ${bytes(all)}${busy}`];
  });
  byId("devices").replaceChildren(
    bars("Memory by model", `process ${bytes(newest.resident_bytes)}`, memory, "no model is in memory"),
    bars("Processor", "last 30 s", processor, "two readings are needed", newest.cores),
    ...(gpus.length ? [bars("GPUs", `${gpus.length}`, gpus, "", 1)] : []),
  );
}
