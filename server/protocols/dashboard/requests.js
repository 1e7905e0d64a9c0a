// The requests of the last minutes: rates, latency, stages, batch sizes, refusals and the cache, of one version or all.

import { bars, lines, nothing, stacked } from "./charts.js";
import { byId, bytes, choices, number, percent, seconds } from "./elements.js";
import { RECENT_S, WINDOW_S, buckets, keyOf, quantile, total } from "./history.js";

const STAGES = ["receive", "decode", "queue_busy", "queue_timer", "assemble", "compute", "scatter", "encode", "send"];
const ALL = "";

export function showRequests(state, history) {
  const rows = state.versions.map(one => [keyOf(one.model, one.version), `${one.model} ${one.version}`]);
  choices(byId("chosen"), [[ALL, "all models"], ...rows]);
  const key = byId("chosen").value || null;
  if (history.points.length < 2) {
    byId("requests").replaceChildren(nothing("Requests", "the first figures come with the next reading"));
    return;
  }
  const series = history.series(key);
  const times = series.map(one => history.now_s - one.clock_s);
  const all = history.over(WINDOW_S, key);
  const recent = history.over(RECENT_S, key);
  byId("requests").replaceChildren(
    rates(series, times, recent, key),
    latency(series, times, recent),
    stages(series, times, recent),
    batches(all),
    outcomes(all, key),
    cache(state, all, history.gauges(key), key),
  );
}

function rates(series, times, recent, key) {
  const ok = one => (one.figures.requests?.ok ?? 0) / one.length_s;
  const others = one => (total(one.figures.requests) + (key === null ? total(one.server.refused) : 0)) / one.length_s - ok(one);
  return lines("Requests a second", `${number(ok(recent) + others(recent))}`, times, [
    { name: "answered", colour: 5, values: series.map(ok) },
    { name: "refused or failed", colour: 2, values: series.map(others) },
  ], number);
}

function latency(series, times, recent) {
  const shares = [["p50", 0.5, 5], ["p95", 0.95, 4], ["p99", 0.99, 2]];
  const rows = shares.map(([name, share, colour]) => ({ name, colour, values: series.map(one => quantile(one.figures.latency, share)) }));
  return lines("Latency", `p95 ${seconds(quantile(recent.figures.latency, 0.95))}`, times, rows, seconds);
}

function stages(series, times, recent) {
  const mean = (one, stage) => (one.figures.timed ? (one.figures.stage_s?.[stage] ?? 0) / one.figures.timed : 0);
  const rows = STAGES.map((name, colour) => ({ name, colour, values: series.map(one => mean(one, name)) }));
  const value = `mean ${seconds(recent.figures.request_s / recent.figures.timed)}`;
  return stacked("Latency by stage", value, times, rows, seconds);
}

function batches({ figures }) {
  const counts = buckets(figures.batches);
  const rows = counts
    .map(([bound, count], index) => [named(counts[index - 1]?.[0] ?? 0, bound), count, number(count)])
    .filter(([, count]) => count);
  const runs = counts.reduce((all, [, count]) => all + count, 0);
  return bars("Batch sizes (rows of a run)", runs ? `mean ${number(figures.batch_rows / runs)}` : "", rows, "no runs in this time");
}

const named = (below, bound) => (bound === Infinity ? `more than ${below}` : bound - below <= 1 ? `${bound}` : `${below + 1} to ${bound}`);

function outcomes({ figures, server }, key) {
  const counts = new Map();
  for (const refused of [figures.requests ?? {}, key === null ? server.refused ?? {} : {}])
    for (const [code, count] of Object.entries(refused)) if (code !== "ok" && count) counts.set(code, (counts.get(code) ?? 0) + count);
  const rows = [...counts].sort((one, other) => other[1] - one[1]).map(([code, count]) => [code, count, number(count)]);
  const all = (figures.requests?.ok ?? 0) + rows.reduce((sum, [, count]) => sum + count, 0);
  const value = rows.length ? percent(1 - (figures.requests?.ok ?? 0) / all) : "";
  return bars("Refusals and failures by reason", value, rows, "none in this time", 0, 2);
}

function cache(state, { figures }, gauges, key) {
  const on = state.models.some(model => model.versions.some(one => one.cached && (key === null || key === keyOf(model.name, one.version))));
  if (!on) return nothing("Response cache", "off: --cache-mb 0, or the model cannot be cached");
  const counts = Object.entries(figures.cache ?? {}).filter(([, count]) => count);
  const asked = total(figures.cache);
  const hits = asked - (figures.cache?.miss ?? 0);
  const value = asked ? `${percent(hits / asked)} hits, ${bytes(gauges.cache_bytes ?? 0)}` : bytes(gauges.cache_bytes ?? 0);
  return bars("Response cache", value, counts.map(([outcome, count]) => [outcome, count, number(count)]), "no requests in this time", 0, 7);
}
