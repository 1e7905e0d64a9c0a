"""The experiment record: a search in MLflow, as one run for the search and one below it for each candidate."""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from server.artifact import MANIFEST, Artifact

from ..errors import BadInput, TrackingFailed
from ..options import Options
from .artifact import REPORT

ENVIRONMENT = "env"
"""Value of ``--mlflow`` that leaves the address to MLflow's own variables."""

LONGEST_VALUE = 500
"""Characters of a parameter. Older servers take no more."""

PARENT, NAME = "mlflow.parentRunId", "mlflow.runName"


@dataclass(frozen=True, slots=True)
class Record:
    """The run of one search in progress. ``client`` is an ``mlflow.MlflowClient``; None without ``--mlflow``."""

    client: Any
    experiment: str
    run: str

    def finish(self, written: Artifact) -> None:
        """Log the results of the search. Raises TrackingFailed; the artifact is complete by then."""
        if self.client is None:
            return
        evidence = written.manifest.evidence
        chosen = next(row for row in evidence["candidates"] if row["chosen"])
        made = written.manifest.provenance
        versions = {f"version.{name}": str(version) for name, version in made["versions"].items()}
        try:
            self._log(self.run, {"chosen": chosen["name"], **versions}, figures(chosen))
            for row in evidence["candidates"]:
                self._candidate(row)
            for name in (REPORT, MANIFEST):
                self.client.log_artifact(self.run, str(written.root / name))
            self.client.set_terminated(self.run, "FINISHED")
        except Exception as error:
            raise TrackingFailed(
                f"{written.root} is complete, but MLflow did not take its record: {_first_line(error)}"
            ) from error

    def _candidate(self, row: Mapping[str, Any]) -> None:
        tags = {PARENT: self.run, NAME: row["name"], "slipway.verdict": row["reason"], "slipway.about": row["about"]}
        run = self.client.create_run(self.experiment, run_name=row["name"], tags=tags).info.run_id
        self._log(run, {name: str(value) for name, value in row["applied"].items()}, figures(row))
        self.client.set_terminated(run, "FINISHED")

    def _log(self, run: str, parameters: Mapping[str, str], metrics: Mapping[str, float]) -> None:
        for name, value in parameters.items():
            self.client.log_param(run, name, value[:LONGEST_VALUE])
        now_ms = int(time.time() * 1000)
        for name, number in metrics.items():
            self.client.log_metric(run, name, number, now_ms)


def figures(row: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of one candidate: score, drop and speed-up with their intervals, noise, and every timing."""
    found: dict[str, float] = {}
    parts = {**(row["accuracy"] or {}), "speed_up": row["speed_up"]}
    for name in ("score", "drop", "speed_up"):
        interval = parts.get(name)
        if interval:
            found |= {name: interval["value"], f"{name}_low": interval["low"], f"{name}_high": interval["high"]}
    if row["sqnr_db"] is not None:
        found["sqnr_db"] = row["sqnr_db"]
    for timing in row["timings"]:
        found[f"p50_us_batch_{timing['batch_size']}_threads_{timing['threads']}"] = timing["p50_us"]
    return found


@contextmanager
def opened(options: Options, command: str, client: Any = None) -> Iterator[Record]:
    """A run in MLflow from before the search until after it; one that did not come to its end is marked so.

    Raises BadInput when MLflow is not installed, or the address that ``--mlflow`` gives does not answer.
    """
    if not options.mlflow:
        yield Record(None, "", "")
        return
    client = client or _client(options.mlflow)
    try:
        found = client.get_experiment_by_name(options.experiment)
        experiment = found.experiment_id if found else client.create_experiment(options.experiment)
        run = client.create_run(experiment, run_name=options.name, tags={"slipway.command": command}).info.run_id
        for name, value in asked(options).items():
            client.log_param(run, name, value[:LONGEST_VALUE])
    except Exception as error:
        raise BadInput(f"--mlflow {options.mlflow}: no run can be started there: {_first_line(error)}") from error
    try:
        yield Record(client, experiment, run)
    except BaseException as error:
        # The user sees the error that ended the search, not a further one of MLflow.
        with suppress(Exception):
            client.set_terminated(run, "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        raise


def asked(options: Options) -> dict[str, str]:
    """The options of the run as MLflow parameters."""
    return {
        "source": options.source,
        "evaluation": str(options.evaluation or "synthetic"),
        "metric": options.metric or "default",
        "max_drop": options.max_drop,
        "objective": options.objective,
        "batch_sizes": ",".join(map(str, options.batch_sizes)),
        "threads": ",".join(map(str, options.threads)),
        "budget_s": f"{options.budget_s:g}",
        "seed": str(options.seed),
        "version": options.version,
    }


def _client(uri: str) -> Any:
    # MLflow sends telemetry unless this is set before it is imported.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        mlflow = importlib.import_module("mlflow")
    except ImportError as error:
        raise BadInput("--mlflow needs the extra 'tracking': pip install -e '.[tracking]'") from error
    try:
        return mlflow.MlflowClient(tracking_uri=None if uri == ENVIRONMENT else uri)
    except Exception as error:
        raise BadInput(f"--mlflow {uri}: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
