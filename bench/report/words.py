"""The texts of a report: tiles, tables, and what was measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from ..explain.audits import Audit
from ..explain.explanation import Explanation
from ..explain.verdict import CONFIDENCE_WORDS, NONE, TITLES, Verdict, gain_in_words, sentence
from .events import Event
from .source import Run
from .svg import number
from .terminal import STEP_HEADS, step_cells

MAX_EVENTS = 8
LAG = "0.25 ms, or 10 % of the percentile"


def paragraph(text: str) -> str:
    """A ``<p>`` of plain text; empty for no text."""
    return f"<p>{escape(text)}</p>" if text else ""


def load(run: Run) -> str:
    """The load of the run, as a phrase."""
    asked = run.record.load
    if asked.mode == "open":
        rate = number(asked.rate_per_s) if asked.rate_per_s is not None else "varying"
        kind = f"open loop, {asked.arrivals} arrivals, {rate} requests/s"
    else:
        kind = f"closed loop, {asked.users} users: a slow server gets fewer requests"
    window = run.record.window
    count, times = window.requests, len(window.repeats)
    seconds = f"{number(window.seconds)} s" + (f" in {times} repeats" if times > 1 else "")
    return f"{kind}, {seconds}, {count:,} requests, {run.record.created}"


def verdict(found: Verdict) -> str:
    """The first cause as the headline, with its evidence, remedy, gain and proof; the others in a line each."""
    first, *others = found.causes
    state = CONFIDENCE_WORDS[first.confidence]
    rows = [("because", "; ".join(first.evidence)), ("do", first.do)]
    if first.name != NONE:
        rows.append(("gain", gain_in_words(first.gain)))
    items = "".join(f"<dt>{name}</dt><dd>{escape(text)}</dd>" for name, text in rows)
    if first.name != NONE:
        items += f"<dt>{first.prove_label}</dt><dd><code>{_unbroken(first.prove)}</code></dd>"
    also = "".join(f"<li>{escape(sentence(one))}</li>" for one in others)
    return (
        f'<h1>{escape(TITLES[first.name])} <span class="confidence {first.confidence}">{state}</span></h1>'
        f'<dl class="verdict">{items}</dl>' + (f'<p class="soft">Also:</p><ul class="also">{also}</ul>' if also else "")
    )


def failures(run: Run) -> str:
    """The failures of the run, the most frequent first."""
    if not run.record.errors:
        return ""
    rows = [
        (one.kind, f"{one.count:,}", f"{one.share:.2%}", f"{one.code}: {one.message}" if one.code else one.message)
        for one in run.record.errors
    ]
    return f"<section><h2>Failures</h2>{table(('kind', 'requests', 'share', 'first message'), rows)}</section>"


def events(found: Sequence[Event]) -> str:
    """What happened during the run, in words."""
    if not found:
        return ""
    shown = "".join(f"<li>{one.at_s:.1f} s: {escape(one.text)}</li>" for one in found[:MAX_EVENTS])
    more = len(found) - MAX_EVENTS
    rest = f"<li>and {more} more, marked in the chart of latency over time</li>" if more > 0 else ""
    return f'<section><h2>What happened</h2><ul class="events">{shown}{rest}</ul></section>'


def tiles(run: Run, explanation: Explanation) -> str:
    """The main figures: percentiles, goodput, failures and busy instances."""
    rates = run.record.throughput
    figures = []
    for name in ("p50", "p90", "p95", "p99"):
        one = (run.record.latency.corrected or {}).get(name)
        if one is None or one.value_ms is None:
            continue
        between = f"{number(one.low_ms)} to {_high(one.high_ms)} ms" if one.low_ms is not None else ""
        sign = ">= " if one.at_least else ""
        figures.append((f"{sign}{number(one.value_ms)} ms", name, between))
    failed = sum(error.share for error in run.record.errors)
    kinds = ", ".join(f"{error.kind}: {error.count:,}" for error in run.record.errors)
    figures.append((f"{number(rates.goodput_per_s)}/s", "answered with success", f"sent {number(rates.sent_per_s)}/s"))
    figures.append((f"{failed:.2%}" if failed else "none", "failed", kinds))
    if explanation.batching is not None:
        figures.append((f"{explanation.batching.busy_instances:.2f}", "instances busy on average", ""))
    items = "".join(
        f"<li><b>{escape(value)}</b>{escape(label)}<small>{escape(note)}</small></li>" for value, label, note in figures
    )
    return f'<ul class="tiles">{items}</ul>'


def steps(run: Run) -> str:
    """The stage times of each step of a pipeline, as a table; empty for a plain model."""
    works = [one for one in run.record.host.works if one.step] if run.record.host is not None else []
    if not works:
        return ""
    note = "By step: ms of a request on average, over all requests, by the server's counters."
    return paragraph(note) + table(STEP_HEADS, [step_cells(one) for one in works])


def evidence(explanation: Explanation) -> str:
    """What was measured, by resource, in a list each."""
    lists = "".join(
        f"<article><h3>{escape(title)}</h3><ul>{''.join(f'<li>{escape(text)}</li>' for text in texts)}</ul></article>"
        for title, texts in explanation.evidence.items()
        if texts
    )
    return f'<div class="evidence">{lists}</div>' if lists else ""


def health(run: Run) -> str:
    """The figures of the load generator, each with its limit."""
    state, limits = run.record.validity, run.record.calibration
    rows = [
        ("schedule kept", _percent(state.schedule_kept), "at least 99 %"),
        ("send lag p50", _ms(state.lag_p50_ms), ""),
        ("send lag p99", _ms(state.lag_p99_ms), ""),
        *((f"lag of the requests around {name}", _ms(lag), LAG) for name, lag in state.lags_ms.items()),
        ("CPU of its core", _percent(state.generator_cpu), "at most 80 %"),
        ("in flight at most", f"{state.peak_in_flight:,}", f"{run.record.load.connections:,} connections"),
    ]
    if limits is not None:
        rows.append(("ceiling of the generator", f"{limits.ceiling_per_s:,.0f}/s", "offered load at most half of it"))
    return table(("", "measured", "limit"), rows)


def audits(found: Sequence[Audit]) -> str:
    """The audits: two computations of the same number, side by side."""
    rows = []
    for one in found:
        state = "holds" if one.ok else "broken" if one.ok is False else "differs"
        left, right = f"{number(one.left_value)} {one.left}", f"{number(one.right_value)} {one.right}"
        rows.append((one.name, one.law, left, right, f"{one.mismatch:.1%}", state, one.note))
    heads = (
        "audit",
        "law",
        "first computation",
        "second computation",
        "mismatch",
        "",
        "harmless reasons for a mismatch",
    )
    return table(heads, rows) if rows else ""


def environment(run: Run) -> str:
    """The machine, versions, payload and seed behind the result."""
    env, asked = run.record.env, run.record.load
    payload = asked.payload
    quota = f", quota {env.quota_cores:g}" if env.quota_cores else ""
    versions = ", ".join(f"{name} {version}" for name, version in env.versions.items())
    pairs = [
        ("processor", f"{env.cpu}, {env.cores} cores{quota}"),
        ("memory", f"{env.memory_bytes / 1e9:.1f} GB{_bandwidth(run)}"),
        ("load before the run", f"{env.load_1m:g}"),
        ("system", f"{env.system}, Python {env.python}"),
        ("versions", f"{versions}; commit {env.commit or 'unknown'}"),
        ("payload", f"{payload.name}, {payload.bytes:,} bytes, SHA-256 {payload.sha256[:16]}"),
        ("seed", str(asked.seed)),
        ("record", f"{run.name}, {run.record.tool}, id {run.record.id}"),
    ]
    return "<dl>" + "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in pairs) + "</dl>"


def _bandwidth(run: Run) -> str:
    found = run.record.memory
    return f", bandwidth {found.bytes_per_s / 1e9:.3g} GB/s (a copy on all cores)" if found is not None else ""


def command(run: Run) -> str:
    """The command line of the run, with a button that copies it."""
    words = _unbroken(run.record.command)
    return f'<pre id="command">{words}</pre><button type="button" id="copy">copy</button>'


def _unbroken(line: str) -> str:
    """A command line of whole words: a browser breaks a line after any hyphen, also after the dashes of an option."""
    return " ".join(f"<span>{escape(word)}</span>" for word in line.split(" "))


def runs_table(found: Sequence[Run]) -> str:
    """A table with one line per run."""
    rows = []
    for run in found:
        corrected = run.record.latency.corrected or {}
        cells = [_ms(corrected[name].value_ms if name in corrected else None) for name in ("p50", "p90", "p99")]
        why = "valid" if run.valid else "; ".join(run.record.validity.reasons)
        goodput = f"{number(run.record.throughput.goodput_per_s)}/s"
        rows.append((run.name, f"{number(run.offered_per_s)}/s", goodput, *cells, why))
    return table(("record", "offered", "answered", "p50", "p90", "p99", ""), rows)


def table(heads: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of plain texts, in a box that scrolls sideways."""
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    body = "".join("<tr>" + "".join(f"<td>{escape(text)}</td>" for text in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _ms(value: float | None) -> str:
    return f"{number(value)} ms" if value is not None else "not known"


def _percent(value: float | None) -> str:
    return f"{value:.1%}" if value is not None else "closed loop: no schedule"


def _high(value: float | None) -> str:
    return number(value) if value is not None else "the time limit"
