"""The monitor of captured data: ``baseline``, ``check`` and ``report``. See ``--help``."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from . import constraints, drift, gauges, page, quality
from .capture_set import CaptureSet, captured, data_set, labels_of
from .columns import Column, column_of
from .errors import MonitorError
from .places import Place, read_text, s3_client, write_text

STATISTICS, CONSTRAINTS, VIOLATIONS = "statistics.json", "constraints.json", "constraint_violations.json"
QUALITY, QUALITY_CONSTRAINTS = "quality_statistics.json", "quality_constraints.json"
QUALITY_VIOLATIONS, CHECK, PAGE, GAUGES = "quality_violations.json", "check.json", "report.html", "slipway_monitor.prom"
CLOUDWATCH = "/opt/ml/output/metrics/cloudwatch"
FAILED, USAGE, VIOLATED = 1, 2, 3


def main(argv: Sequence[str], environ: Mapping[str, str] | None = None, client: Any = s3_client) -> int:
    """The exit code: 0 done, 1 failure, 2 invalid command line, 3 violations (with ``--fail``)."""
    options = _parser(dict(os.environ if environ is None else environ)).parse_args(argv)
    commands = {"baseline": _baseline, "check": _check, "report": _report}
    try:
        return commands[options.command](options, client)
    except MonitorError as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED


def _baseline(options: argparse.Namespace, client: Any) -> int:
    """Statistics and constraints of data that is known to be good."""
    found = _data(options, client)
    columns = found.columns
    suggested = constraints.suggest(columns, options.threshold)
    _write(options, client, STATISTICS, statistics(found))
    _write(options, client, CONSTRAINTS, constraints.to_json(suggested))
    print(f"baseline: {found.events:,} events, {found.inputs.rows:,} rows, {len(columns)} columns; {_skipped(found)}")
    if options.labels:
        figures, problem = _quality(options, found)
        count = len(found.pairs.labels)
        _write(options, client, QUALITY, quality.to_json(figures, problem, count))
        _write(options, client, QUALITY_CONSTRAINTS, quality.constraints_json(figures, problem))
        print("baseline: " + ", ".join(f"{name} {one.value:.4f}" for name, one in figures.items()))
    print(f"baseline: written to {options.out}")
    return 0


def _check(options: argparse.Namespace, client: Any) -> int:
    """Captured data against a baseline."""
    document = _read(options.statistics or _join(options.baseline, STATISTICS), client)
    before = columns_of(document)
    held_to = constraints.from_json(_read(options.constraints or _join(options.baseline, CONSTRAINTS), client))
    known = None
    if options.labels:
        known = quality.from_json(_read(_join(options.baseline, QUALITY), client))
    found = _data(options, client)
    found.name_positions([name for name in before if not name.startswith("output.")])
    now = found.columns
    findings = drift.compare(before, now, held_to, options.alpha) if held_to.enabled else []
    rows, at = max(found.inputs.rows, found.outputs.rows), datetime.now(UTC)
    worse: list[quality.QualityFinding] = []
    matched = ""
    if known is not None:
        problem, earlier = known
        options.problem = options.problem or problem
        figures, problem = _quality(options, found)
        worse = quality.compare(earlier, figures, options.alpha)
        pairs = found.pairs
        matched = f"{len(pairs.labels):,} rows have labels, {pairs.unmatched:,} events have none yet"
        if pairs.mismatched:
            matched += f", {pairs.mismatched:,} events have another number of labels than rows"
        _write(options, client, QUALITY, quality.to_json(figures, problem, len(found.pairs.labels)))
        _write(options, client, QUALITY_VIOLATIONS, {"violations": quality.violations(worse)})
    violated = drift.violations(findings)
    _write(options, client, STATISTICS, statistics(found))
    _write(options, client, VIOLATIONS, violated)
    baseline_rows = int(document.get("dataset", {}).get("item_count", 0))
    shown = page.Checked(
        options.title, at.strftime("%Y-%m-%d %H:%M UTC"), rows, baseline_rows, options.alpha, findings, worse,
        dict(found.bad.most_common()), matched,
    )  # fmt: skip
    _write(options, client, CHECK, {**dataclasses.asdict(shown), "baseline": [c.to_json(n) for n, c in before.items()]})
    write_text(options.out, PAGE, page.render(shown, before, now), client)
    write_text(options.out, GAUGES, gauges.text(findings, worse, rows, found.bad.total(), at), client)
    if options.cloudwatch:
        names = {"Endpoint": options.endpoint, "MonitoringSchedule": options.schedule}
        lines = gauges.cloudwatch(now, findings, at, {key: value for key, value in names.items() if value})
        write_text(str(Path(CLOUDWATCH).parent), Path(CLOUDWATCH).name, lines, client)
    for row in violated["violations"]:
        print(f"violation: {row['feature_name']}: {row['constraint_check_type']}: {row['description']}")
    for one in quality.violations(worse):
        print(f"violation: {one['description']}")
    count = len(violated["violations"]) + sum(one.violated for one in worse)
    print(f"check: {rows:,} rows, {count} violations; {_skipped(found)}; {options.out}/{PAGE}")
    return VIOLATED if count and options.fail else 0


def _report(options: argparse.Namespace, client: Any) -> int:
    """Write the page of a check again, from its files."""
    document = _read(_join(options.check, CHECK), client)
    now = columns_of(_read(_join(options.check, STATISTICS), client))
    try:
        before = columns_of({"features": document.pop("baseline")})
        document["findings"] = [drift.Finding(**one) for one in document["findings"]]
        document["quality"] = [quality.QualityFinding(**one) for one in document["quality"]]
        shown = page.Checked(**document)
        text = page.render(shown, before, now)
    except (KeyError, TypeError) as error:
        raise MonitorError(f"{options.check}/{CHECK} is not of this version's check: {error}") from error
    write_text(options.out or options.check, PAGE, text, client)
    print(f"report: {options.out or options.check}/{PAGE}")
    return 0


def statistics(found: CaptureSet) -> dict[str, Any]:
    """``statistics.json``."""
    count = found.inputs.rows or found.outputs.rows
    features = [column.to_json(name) for name, column in found.columns.items()]
    return {"version": 0, "dataset": {"item_count": count}, "features": features}


def columns_of(document: Any) -> dict[str, Column]:
    """The columns of ``statistics.json``. Raises MonitorError."""
    features = document.get("features") if isinstance(document, dict) else None
    if not isinstance(features, list):
        raise MonitorError("the statistics have no features; give a statistics.json")
    return {str(one.get("name")): column_of(one) for one in features if isinstance(one, dict)}


def _data(options: argparse.Namespace, client: Any) -> CaptureSet:
    place = Place(options.data, client, options.start, options.end)
    if options.format == "csv":
        return data_set(place, header=options.header, names=options.columns)
    labels = labels_of(Place(options.labels, client)) if options.labels else None
    found = captured(place, labels, options.prediction)
    if options.columns:
        found.name_positions(options.columns)
    return found


def _quality(options: argparse.Namespace, found: CaptureSet) -> tuple[dict[str, quality.Figure], str]:
    problem = options.problem or quality.problem_of(found.pairs)
    return quality.measure(found.pairs, problem), problem


def _skipped(found: CaptureSet) -> str:
    faults = ", ".join(f"{count:,} {fault}" for fault, count in found.bad.most_common(3))
    return f"{found.bad.total():,} lines skipped" + (f" ({faults})" if faults else "")


def _read(url: str, client: Any) -> Any:
    try:
        return json.loads(read_text(url, client))
    except json.JSONDecodeError as error:
        raise MonitorError(f"{url} is no JSON: {error}") from error


def _write(options: argparse.Namespace, client: Any, name: str, document: Any) -> None:
    write_text(options.out, name, json.dumps(document, indent=1) + "\n", client)


def _join(folder: str, name: str) -> str:
    return f"{folder.rstrip('/')}/{name}"


def _time(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _alpha(text: str) -> float:
    value = float(text)
    if not 0 < value < 1:
        raise ValueError
    return value


def _parser(environ: Mapping[str, str]) -> argparse.ArgumentParser:
    """The command line. The variables of a SageMaker monitoring job are defaults of ``check``."""
    parser = argparse.ArgumentParser(prog="python -m container.monitor", description=__doc__.partition(" See")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    baseline = commands.add_parser("baseline", help="statistics and constraints of data that is known to be good")
    check = commands.add_parser("check", help="captured data against a baseline: drift, violations, quality")
    report = commands.add_parser("report", help="write the page of a check again")
    source = environ.get("dataset_source", "")
    for one, given in ((baseline, ""), (check, source)):
        one.add_argument("data", nargs="?" if given else None, default=given or None, help="file, folder or s3://")
        one.add_argument("--out", default=environ.get("output_path") if given else None, required=not given,
                         help="folder or s3:// for the results")  # fmt: skip
        one.add_argument("--format", choices=("capture", "csv"), default="capture", help="captured events, or a table")
        one.add_argument("--no-header", dest="header", action="store_false", help="the CSV has no line of names")
        one.add_argument("--columns", type=lambda text: text.split(","), default=[],
                         help="names of the columns of requests, which have none in CSV and lists")  # fmt: skip
        one.add_argument("--labels", default="", help="ground truth files, as JSON lines, for quality")
        one.add_argument("--prediction", default="", help="output column that is the prediction (default: all; of "
                         "several the index of the largest)")  # fmt: skip
        one.add_argument("--problem", choices=quality.PROBLEMS, default="", help="default: by the labels")
        one.add_argument("--start", type=_time, default=_when(environ.get("start_time") if given else None),
                         help="first hour of the yyyy/mm/dd/hh folders, in ISO 8601")  # fmt: skip
        one.add_argument("--end", type=_time, default=_when(environ.get("end_time") if given else None),
                         help="hour that is not read any more")  # fmt: skip
    baseline.add_argument("--threshold", type=_alpha, default=0.1, help="least distance that is drift (default: 0.1)")
    check.add_argument("--baseline", default="", help="folder or s3:// that baseline wrote")
    check.add_argument("--statistics", default=environ.get("baseline_statistics", ""), help="instead of --baseline")
    check.add_argument("--constraints", default=environ.get("baseline_constraints", ""), help="instead of --baseline")
    check.add_argument("--alpha", type=_alpha, default=drift.ALPHA,
                       help="false alarms that chance may raise, a share of checks (default: 0.01)")  # fmt: skip
    check.add_argument("--fail", action="store_true", help="exit with 3 if there are violations")
    check.add_argument("--title", default=environ.get("sagemaker_endpoint_name", "captured data"))
    check.set_defaults(
        cloudwatch=environ.get("publish_cloudwatch_metrics") == "Enabled",
        endpoint=environ.get("sagemaker_endpoint_name", ""),
        schedule=environ.get("sagemaker_monitoring_schedule_name", ""),
    )
    report.add_argument("check", help="folder or s3:// that check wrote")
    report.add_argument("--out", default="", help="folder or s3:// (default: the same)")
    return parser


def _when(text: str | None) -> datetime | None:
    return _time(text) if text else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
