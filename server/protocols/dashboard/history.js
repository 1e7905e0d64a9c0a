// The history: the states of the last minutes, and the figures of a stretch of them. Counters become rates here.

export const WINDOW_S = 300;
export const RECENT_S = 30;
const MOST_ROWS = 7_500;
const MOST_POINTS = 150;

export const keyOf = (model, version) => JSON.stringify([model, version]);

export class History {
  constructor() {
    this.points = [];
  }

  // Adds a state. A server that was started again begins a new history.
  add(state) {
    const last = this.points.at(-1);
    if (last && state.server.started_s !== last.started_s) this.points = [];
    else if (last && state.clock_s <= last.clock_s) return; // a text that another process kept, or the same one
    const rows = new Map(state.versions.map(one => [keyOf(one.model, one.version), one]));
    this.points.push({ clock_s: state.clock_s, started_s: state.server.started_s, rows, server: state.server });
    const most = Math.max(8, Math.min(MOST_POINTS, Math.floor(MOST_ROWS / Math.max(rows.size, 1))));
    while (this.points.length > most || state.clock_s - this.points[0].clock_s > WINDOW_S) this.points.shift();
  }

  get now_s() {
    return this.points.at(-1)?.clock_s ?? 0;
  }

  // The growth of counters over the newest `length_s`, of one version or, with null, of all together.
  over(length_s, key) {
    const end = this.points.at(-1);
    const begin = this.points.find(one => end.clock_s - one.clock_s <= length_s);
    return begin === end ? empty(1) : grown(begin, end, key);
  }

  // The same for every stretch between two points: [{clock_s, ...growth}].
  series(key) {
    return this.points.slice(1).map((end, index) => ({ clock_s: end.clock_s, ...grown(this.points[index], end, key) }));
  }

  // The gauges of the newest point, added up.
  gauges(key) {
    return sum(chosen(this.points.at(-1)?.rows ?? new Map(), key).map(([, row]) => row));
  }
}

const chosen = (rows, key) => [...rows].filter(([own]) => key === null || own === key);

const empty = length_s => ({ length_s, figures: {}, server: {} });

function grown(begin, end, key) {
  const rows = chosen(end.rows, key).map(([own, row]) => growth(begin.rows.get(own), row));
  return { length_s: end.clock_s - begin.clock_s, figures: sum(rows), server: growth(begin.server, end.server) };
}

// After less before, field by field. A counter that fell began again: its value is its growth.
function growth(before, after) {
  const grew = {};
  for (const [field, value] of Object.entries(after)) {
    if (typeof value === "number") {
      const old = before?.[field] ?? 0;
      grew[field] = value >= old ? value - old : value;
    } else if (typeof value === "object" && value !== null) grew[field] = growth(before?.[field], value);
  }
  return grew;
}

function sum(rows) {
  const total = {};
  for (const row of rows)
    for (const [field, value] of Object.entries(row)) {
      if (typeof value === "number") total[field] = (total[field] ?? 0) + value;
      else if (typeof value === "object" && value !== null) total[field] = sum([total[field] ?? {}, value]);
    }
  return total;
}

// The counts of buckets, from cumulative ones: [[upper bound, count]].
export function buckets(cumulative) {
  const bounds = Object.entries(cumulative ?? {}).map(([bound, count]) => [bound === "+Inf" ? Infinity : Number(bound), count]);
  bounds.sort((one, other) => one[0] - other[0]);
  return bounds.map(([bound, count], index) => [bound, count - (index ? bounds[index - 1][1] : 0)]);
}

// A quantile within its bucket; NaN without values, the last bound for values beyond it.
export function quantile(cumulative, share) {
  const counts = buckets(cumulative);
  const wanted = share * counts.reduce((all, [, count]) => all + count, 0);
  let seen = 0, lower = 0;
  for (const [bound, count] of counts) {
    if (count && seen + count >= wanted) return bound === Infinity ? lower : lower + ((bound - lower) * (wanted - seen)) / count;
    seen += count;
    lower = bound;
  }
  return NaN;
}

export const total = counts => Object.values(counts ?? {}).reduce((all, one) => all + one, 0);
