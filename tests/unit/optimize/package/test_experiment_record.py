"""The record in MLflow: a run for the search and one for each candidate, also when the search does not end well."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from optimize import options
from optimize.errors import BadInput, TrackingFailed
from optimize.package import artifact as package
from optimize.package import experiment_record
from optimize.package.artifact import Findings, Identity
from server import artifact
from server.artifact import Artifact

NAMES = re.compile(r"[\w\-./: ]{1,250}")
"""What MLflow takes as the name of a parameter or a metric."""


@dataclass
class Run:
    tags: Mapping[str, str]
    parameters: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    artifacts: list[str] = field(default_factory=list)
    status: str = "RUNNING"


class Client:
    """Keeps what it is told, and refuses what a server refuses."""

    def __init__(self, failing: str = "") -> None:
        self.experiments: dict[str, str] = {}
        self.runs: dict[str, Run] = {}
        self.failing = failing

    def get_experiment_by_name(self, name: str) -> Any:
        found = self.experiments.get(name)
        return SimpleNamespace(experiment_id=found) if found else None

    def create_experiment(self, name: str) -> str:
        self._may("create_experiment")
        if name in self.experiments:
            raise ValueError(f"Experiment(name={name}) already exists")
        return self.experiments.setdefault(name, str(len(self.experiments)))

    def create_run(self, experiment_id: str, run_name: str, tags: Mapping[str, str]) -> Any:
        if experiment_id not in self.experiments.values():
            raise ValueError(f"No Experiment with id={experiment_id} exists")
        key = f"{len(self.runs)}"
        self.runs[key] = Run({**tags, experiment_record.NAME: run_name})
        return SimpleNamespace(info=SimpleNamespace(run_id=key))

    def log_param(self, run_id: str, key: str, value: str) -> None:
        run = self._running(run_id, key)
        if run.parameters.setdefault(key, value) != value:
            raise ValueError(f"Changing param values is not allowed: {key}")
        if len(value) > 500:
            raise ValueError(f"Param value of {key} exceeds length 500")

    def log_metric(self, run_id: str, key: str, value: float, timestamp: int) -> None:
        self._running(run_id, key).metrics[key] = float(value)

    def log_artifact(self, run_id: str, path: str) -> None:
        self._may("log_artifact")
        if not Path(path).is_file():
            raise FileNotFoundError(path)
        self._running(run_id, "a").artifacts.append(Path(path).name)

    def set_terminated(self, run_id: str, status: str) -> None:
        self._may("set_terminated")
        assert status in ("FINISHED", "FAILED", "KILLED")
        self.runs[run_id].status = status

    def _running(self, run_id: str, key: str) -> Run:
        if not NAMES.fullmatch(key):
            raise ValueError(f"Invalid name {key!r}")
        return self.runs[run_id]

    def _may(self, what: str) -> None:
        if what == self.failing:
            raise ConnectionError("the server is gone\nsecond line")


def given(*more: str) -> options.Options:
    return options.parse(["here:there", "--eval", "e.npz", "--output", "build/small", "--mlflow", "http://x", *more])


@pytest.fixture
def written(tmp_path: Path, findings: Findings, rows: Any) -> Artifact:
    root = tmp_path / "written"
    root.mkdir()
    package.write(root, Identity("small", "1", "", ()), findings, rows)
    return artifact.read(root)


def test_a_search_is_a_run_with_a_run_below_it_for_each_candidate(written: Artifact) -> None:
    client = Client()
    with experiment_record.opened(given("--seed", "3"), "python -m optimize ...", client) as record:
        assert client.runs["0"].parameters["seed"] == "3", "what was asked for is there while the search goes on"
        record.finish(written)
    search, *candidates = client.runs.values()
    assert (search.status, search.parameters["chosen"], search.metrics["speed_up"]) == ("FINISHED", "fast", 2)
    assert search.artifacts == ["report.html", "manifest.json"]
    assert [run.tags[experiment_record.NAME] for run in candidates] == ["float32", "fast", "broken"]
    assert {(run.status, run.tags[experiment_record.PARENT]) for run in candidates} == {("FINISHED", "0")}
    broken = candidates[2]
    assert broken.tags["slipway.verdict"] == "not accurate enough: too far off"
    assert broken.metrics == {
        "score": 0.9, "score_low": 0.88, "score_high": 0.92, "drop": 0.08, "drop_low": 0.06, "drop_high": 0.1,
        "sqnr_db": 1.0,
    }  # fmt: skip
    assert candidates[1].metrics["p50_us_batch_8_threads_1"] == 80


def test_a_second_search_is_a_run_of_the_same_experiment(written: Artifact) -> None:
    client = Client()
    for _ in range(2):
        with experiment_record.opened(given("--experiment", "mine"), "", client) as record:
            record.finish(written)
    assert list(client.experiments) == ["mine"]
    assert len(client.runs) == 8


@pytest.mark.parametrize(("error", "status"), [(BadInput("no"), "FAILED"), (KeyboardInterrupt(), "KILLED")])
def test_a_search_that_ends_badly_is_marked_so(error: BaseException, status: str) -> None:
    client = Client()
    with pytest.raises(type(error)), experiment_record.opened(given(), "", client):
        raise error
    assert [run.status for run in client.runs.values()] == [status]


def test_the_search_is_what_failed_also_when_mlflow_is_gone() -> None:
    with pytest.raises(BadInput, match=r"^no$"), experiment_record.opened(given(), "", Client("set_terminated")):
        raise BadInput("no")


def test_a_store_that_does_not_answer_is_told_before_the_search() -> None:
    with (
        pytest.raises(BadInput, match=r"--mlflow http://x: no run can be started there: the server is gone$"),
        experiment_record.opened(given(), "", Client("create_experiment")),
    ):
        raise AssertionError("it must not begin")


def test_a_record_that_is_lost_does_not_lose_the_artifact(written: Artifact) -> None:
    client = Client("log_artifact")
    with (
        pytest.raises(TrackingFailed, match=r"is complete, but MLflow"),
        experiment_record.opened(given(), "", client) as record,
    ):
        record.finish(written)
    assert client.runs["0"].status == "FAILED"


def test_without_the_option_nothing_is_asked_of_mlflow(written: Artifact) -> None:
    plain = options.parse(["here:there", "--eval", "e.npz", "--output", "build/small"])
    with experiment_record.opened(plain, "") as record:
        record.finish(written)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_real_thing_takes_it(written: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="the extra 'tracking' is not installed")
    # A file store puts artifacts beside where it is used.
    monkeypatch.chdir(tmp_path)
    uri = f"sqlite:///{tmp_path / 'record.db'}"
    with experiment_record.opened(given("--mlflow", uri), "python -m optimize ...") as record:
        record.finish(written)
    client = mlflow.MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("slipway")
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert set(runs) == {"small", "float32", "fast", "broken"}
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    assert runs["fast"].data.metrics["speed_up"] == 2
    found = {file.path for file in client.list_artifacts(runs["small"].info.run_id)}
    assert found == {"report.html", "manifest.json"}
