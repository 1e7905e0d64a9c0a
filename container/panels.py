"""The panels of the dashboard: one row of a table each, in the stages and words of the server."""

from __future__ import annotations

from dataclasses import dataclass

ONE = 'model=~"$model"'
"""The models that are chosen at the top of the page."""


def per_second(metric: str, *, by: str = "", matching: str = ONE) -> str:
    grouped = f" by ({by})" if by else ""
    return f"sum{grouped} (rate({metric}{{{matching}}}[$__rate_interval]))"


def quantile(q: float, metric: str, *, by: str, matching: str = ONE) -> str:
    return f"histogram_quantile({q}, {per_second(f'{metric}_bucket', by=f'{by}, le', matching=matching)})"


def mean(metric: str, *, by: str, matching: str = ONE) -> str:
    return f"{per_second(f'{metric}_sum', by=by, matching=matching)} / " + per_second(
        f"{metric}_count", by=by, matching=matching
    )


@dataclass(frozen=True, slots=True)
class Panel:
    """``queries``: PromQL and the legend of its series. ``kind``: Grafana's name of the panel type."""

    title: str
    queries: tuple[tuple[str, str], ...]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    stacked: bool = False
    text: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under a heading."""

    title: str
    panels: tuple[Panel, ...]


def _stage(name: str) -> str:
    return f'{ONE}, stage="{name}"'


ROWS = (
    Row(
        "Now",
        (
            Panel("Ready", (("min(slipway_ready)", ""),), kind="stat", width=4, text="1 when /ping answers 200."),
            Panel("Server", (("count by (version) (slipway_build_info)", "{{version}}"),), kind="stat", width=4),
            Panel("Answers a second", ((per_second("slipway_requests_total"), ""),), "reqps", "stat", 4),
            Panel("p99", ((quantile(0.99, "slipway_request_seconds", by="model"), "{{model}}"),), "s", "stat", 4),
            Panel(
                "Refused or too late",
                (
                    (
                        per_second(
                            "slipway_requests_total",
                            matching=f'{ONE}, outcome=~"overloaded|deadline_exceeded|not_ready"',
                        )
                        + " / "
                        + per_second("slipway_requests_total"),
                        "",
                    ),
                ),
                "percentunit",
                "stat",
                4,
            ),
            Panel(
                "Predicted wait", ((f"max by (model) (slipway_backlog_seconds{{{ONE}}})", "{{model}}"),), "s", "stat", 4
            ),
        ),
    ),
    Row(
        "Where the time of a request goes",
        (
            Panel(
                "Mean time in each stage",
                ((mean("slipway_stage_seconds", by="stage"), "{{stage}}"),),
                "s",
                stacked=True,
                width=12,
                text="The stages of a request add up to its whole.",
            ),
            Panel(
                "p99 of each stage",
                ((quantile(0.99, "slipway_stage_seconds", by="stage"), "{{stage}}"),),
                "s",
                width=12,
            ),
            Panel(
                "Waiting while every instance worked (queue_busy)",
                (
                    (
                        quantile(0.5, "slipway_stage_seconds", by="model", matching=_stage("queue_busy")),
                        "{{model}} p50",
                    ),
                    (
                        quantile(0.99, "slipway_stage_seconds", by="model", matching=_stage("queue_busy")),
                        "{{model}} p99",
                    ),
                ),
                "s",
                text="Too little capacity: more instances, larger batches, a faster form of the model.",
            ),
            Panel(
                "Waiting for company (queue_timer)",
                (
                    (
                        quantile(0.5, "slipway_stage_seconds", by="model", matching=_stage("queue_timer")),
                        "{{model}} p50",
                    ),
                    (
                        quantile(0.99, "slipway_stage_seconds", by="model", matching=_stage("queue_timer")),
                        "{{model}} p99",
                    ),
                ),
                "s",
                text="An instance was free: lower max_queue_delay_us.",
            ),
            Panel(
                "Computing (compute)",
                (
                    (quantile(0.5, "slipway_stage_seconds", by="model", matching=_stage("compute")), "{{model}} p50"),
                    (quantile(0.99, "slipway_stage_seconds", by="model", matching=_stage("compute")), "{{model}} p99"),
                ),
                "s",
                text="The model itself: python -m optimize; python -m bench says what a larger batch would give.",
            ),
        ),
    ),
    Row(
        "Requests",
        (
            Panel(
                "Whole time, first byte to last",
                tuple(
                    (quantile(q, "slipway_request_seconds", by="model"), f"{{{{model}}}} p{q * 100:g}")
                    for q in (0.5, 0.95, 0.99)
                ),
                "s",
            ),
            Panel(
                "By outcome",
                ((per_second("slipway_requests_total", by="outcome"), "{{outcome}}"),),
                "reqps",
                stacked=True,
            ),
            Panel(
                "By version",
                ((per_second("slipway_requests_total", by="model, version"), "{{model}} {{version}}"),),
                "reqps",
            ),
            Panel(
                "Refused before any model saw them",
                ((per_second("slipway_refused_total", by="code", matching=""), "{{code}}"),),
                "reqps",
            ),
            Panel(
                "Runs that failed",
                ((per_second("slipway_failed_slices_total", by="model"), "{{model}}"),),
                "ops",
                text="Requests, or parts of large ones, that a run failed on; their neighbours were run again.",
            ),
            Panel(
                "Answers from the cache",
                ((per_second("slipway_cache_requests_total", by="outcome"), "{{outcome}}"),),
                "reqps",
            ),
        ),
    ),
    Row(
        "Batches",
        (
            Panel("Rows of a run, mean", ((mean("slipway_batch_rows", by="model"), "{{model}}"),)),
            Panel("Rows of a run", ((per_second("slipway_batch_rows_bucket", by="le"), "{{le}}"),), kind="heatmap"),
            Panel("Runs a second", ((per_second("slipway_batch_rows_count", by="model"), "{{model}}"),), "ops"),
            Panel("Rows that wait", ((f"sum by (model) (slipway_queue_rows{{{ONE}}})", "{{model}}"),)),
            Panel(
                "Predicted wait of a new request",
                ((f"max by (model) (slipway_backlog_seconds{{{ONE}}})", "{{model}}"),),
                "s",
            ),
            Panel(
                "Measured time of a run, by batch size",
                ((f"max by (model, batch_size) (slipway_cost_seconds{{{ONE}}})", "{{model}} {{batch_size}}"),),
                "s",
                text="What the scheduler decides by.",
            ),
        ),
    ),
    Row(
        "Memory, versions, process",
        (
            Panel(
                "Memory",
                (
                    ("process_resident_memory_bytes", "{{instance}}"),
                    ("slipway:memory_limit_bytes", "limit"),
                ),
                "bytes",
            ),
            Panel(
                "Memory of each version",
                ((f"slipway_model_memory_bytes{{{ONE}}}", "{{model}} {{version}}"),),
                "bytes",
                stacked=True,
            ),
            Panel("Memory of the caches", ((f"slipway_cache_bytes{{{ONE}}}", "{{model}} {{version}}"),), "bytes"),
            Panel(
                "Versions in memory",
                ((f"slipway_load_seconds{{{ONE}}}", "{{model}} {{version}}"),),
                "s",
                text="The value is what loading took.",
            ),
            Panel(
                "Copies to a shadow",
                (
                    (
                        per_second("slipway_shadow_requests_total", by="model, version, outcome"),
                        "{{model}} {{version}} {{outcome}}",
                    ),
                ),
                "reqps",
            ),
            Panel(
                "Processor",
                (("rate(process_cpu_seconds_total[$__rate_interval])", "{{instance}}"),),
                "none",
                text="Cores in use.",
            ),
            Panel("Open files", (("process_open_fds", "{{instance}}"), ("process_max_fds", "limit"))),
        ),
    ),
)
