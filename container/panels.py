"""The panels of the dashboard as a table, with the stages and metric names of the server."""

from __future__ import annotations

from dataclasses import dataclass

ONE = 'model=~"$model"'
"""The label match of the models that the viewer selects."""


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


def _quantiles(metric: str, quantiles: tuple[float, ...], matching: str = ONE) -> tuple[tuple[str, str], ...]:
    return tuple((quantile(q, metric, by="model", matching=matching), f"{{{{model}}}} p{q * 100:g}") for q in quantiles)


def _stage_quantiles(stage: str) -> tuple[tuple[str, str], ...]:
    return _quantiles("slipway_stage_seconds", (0.5, 0.99), f'{ONE}, stage="{stage}"')


SHED = per_second("slipway_requests_total", matching=f'{ONE}, outcome=~"overloaded|deadline_exceeded|not_ready"')


ROWS = (
    Row(
        "Now",
        (
            Panel("Ready", (("min(slipway_ready)", ""),), kind="stat", width=4, text="1 when /ping returns 200."),
            Panel("Server", (("count by (version) (slipway_build_info)", "{{version}}"),), kind="stat", width=4),
            Panel("Responses per second", ((per_second("slipway_requests_total"), ""),), "reqps", "stat", 4),
            Panel("p99", ((quantile(0.99, "slipway_request_seconds", by="model"), "{{model}}"),), "s", "stat", 4),
            Panel(
                "Shed or expired", ((f"{SHED} / {per_second('slipway_requests_total')}", ""),), "percentunit", "stat", 4
            ),
            Panel(
                "Predicted wait", ((f"max by (model) (slipway_backlog_seconds{{{ONE}}})", "{{model}}"),), "s", "stat", 4
            ),
        ),
    ),
    Row(
        "Stages of a request",
        (
            Panel(
                "Mean time of each stage",
                ((mean("slipway_stage_seconds", by="stage"), "{{stage}}"),),
                "s",
                stacked=True,
                width=12,
                text="The stages of a request add up to its latency.",
            ),
            Panel(
                "p99 of each stage",
                ((quantile(0.99, "slipway_stage_seconds", by="stage"), "{{stage}}"),),
                "s",
                width=12,
            ),
            Panel(
                "Wait for a free instance (queue_busy)",
                _stage_quantiles("queue_busy"),
                "s",
                text="Too little capacity: more instances, larger batches, a faster variant of the model.",
            ),
            Panel(
                "Wait for more requests (queue_timer)",
                _stage_quantiles("queue_timer"),
                "s",
                text="An instance was free: lower max_queue_delay_us.",
            ),
            Panel(
                "Compute",
                _stage_quantiles("compute"),
                "s",
                text="The time of the model: optimize makes it faster; bench predicts the gain of larger batches.",
            ),
        ),
    ),
    Row(
        "Requests",
        (
            Panel("Latency, first byte to last", _quantiles("slipway_request_seconds", (0.5, 0.95, 0.99)), "s"),
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
                "Refused before a model was selected",
                ((per_second("slipway_refused_total", by="code", matching=""), "{{code}}"),),
                "reqps",
            ),
            Panel(
                "Failed runs",
                ((per_second("slipway_failed_slices_total", by="model"), "{{model}}"),),
                "ops",
                text="Requests, or slices of large requests, whose run failed; the rest of their batch was run again.",
            ),
            Panel("Cache", ((per_second("slipway_cache_requests_total", by="outcome"), "{{outcome}}"),), "reqps"),
        ),
    ),
    Row(
        "Batches",
        (
            Panel("Rows per batch, mean", ((mean("slipway_batch_rows", by="model"), "{{model}}"),)),
            Panel("Rows per batch", ((per_second("slipway_batch_rows_bucket", by="le"), "{{le}}"),), kind="heatmap"),
            Panel("Batches per second", ((per_second("slipway_batch_rows_count", by="model"), "{{model}}"),), "ops"),
            Panel("Queued rows", ((f"sum by (model) (slipway_queue_rows{{{ONE}}})", "{{model}}"),)),
            Panel(
                "Predicted wait of a new request",
                ((f"max by (model) (slipway_backlog_seconds{{{ONE}}})", "{{model}}"),),
                "s",
            ),
            Panel(
                "Measured time of a batch, by batch size",
                ((f"max by (model, batch_size) (slipway_cost_seconds{{{ONE}}})", "{{model}} {{batch_size}}"),),
                "s",
                text="The cost table of the scheduler.",
            ),
        ),
    ),
    Row(
        "Memory, versions, process",
        (
            Panel(
                "Memory",
                (("process_resident_memory_bytes", "{{instance}}"), ("slipway:memory_limit_bytes", "limit")),
                "bytes",
            ),
            Panel(
                "Memory of each version",
                ((f"slipway_model_memory_bytes{{{ONE}}}", "{{model}} {{version}}"),),
                "bytes",
                stacked=True,
            ),
            Panel(
                "Memory of the response caches", ((f"slipway_cache_bytes{{{ONE}}}", "{{model}} {{version}}"),), "bytes"
            ),
            Panel(
                "Loaded versions",
                ((f"slipway_load_seconds{{{ONE}}}", "{{model}} {{version}}"),),
                "s",
                text="The value is the load time.",
            ),
            Panel(
                "Shadow requests",
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
