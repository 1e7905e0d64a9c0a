"""A really trained network, cut and trained again: what the whole command makes of it, and what training may not do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from optimize import hardware, options, passes, pipeline
from optimize.errors import PassFailed
from optimize.evaluation import evaluate
from optimize.evaluation.dataset import Dataset
from optimize.evaluation.metrics import METRICS
from optimize.passes import PassJob
from optimize.progress import Display
from optimize.pruning import Cut, retrained
from optimize.search import decide
from optimize.search.candidates import PRUNED
from optimize.sources import SourceSpec, torch_factory
from server import artifact
from tests.benchmarks.optimize import point_clouds

TRAINING = """
import pathlib
import numpy
from tests.benchmarks.optimize import point_clouds

def tune(module):
    numpy.load(pathlib.Path(__file__).with_name("extra.npy"))
    point_clouds.train(module)

def calls_home(module):
    import socket
    socket.create_connection(("127.0.0.1", 9))
"""
ROWS = 4000


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a trained network's weights, rows that it was not trained on, and its training as a module."""
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("pruning")
    (folder / "pruning_training.py").write_text(TRAINING)
    np.save(folder / "extra.npy", np.zeros(3))
    threads = torch.get_num_threads()
    torch.manual_seed(0)
    network = point_clouds.build()
    point_clouds.train(network)
    torch.set_num_threads(threads)
    save_file(network.state_dict(), folder / "weights.safetensors")
    points, labels = point_clouds.rows(ROWS, 2)
    np.savez(folder / "eval.npz", points=points, labels=labels)
    return folder


@pytest.fixture(autouse=True)
def _on_path(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(place))


@pytest.mark.slow
def test_the_whole_command_takes_a_cut_network_that_was_trained_again(place: Path, tmp_path: Path) -> None:
    """Judged against the original network, on rows that neither has seen, and timed against it."""
    given = options.parse(
        [
            *(
                "tests.benchmarks.optimize.point_clouds:build",
                "--weights",
                str(place / "weights.safetensors"),
                "--prune",
                "0.5",
            ),
            *("--train", "pruning_training:tune", "--eval", str(place / "eval.npz"), "--candidates", "pruned_50"),
            *("--batch-sizes", "16,64", "--threads", "1", "--rounds", "5", "--output", str(tmp_path / "out")),
            *("--work", str(tmp_path / "work")),
        ]
    )
    written = pipeline.run(given, "python -m optimize", Display(Console(quiet=True)))
    artifact.verify(artifact.read(written.root))
    cut = next(row for row in written.manifest.evidence["candidates"] if row["name"] == "pruned_50")
    assert cut["chosen"], cut["reason"]
    assert cut["speed_up"]["low"] > decide.WORTH_IT
    assert cut["accuracy"]["drop"]["high"] <= written.manifest.evidence["max_drop"]["limit"]
    assert {"cut first: 512 -> 256 channels", "cut second: 512 -> 256 channels"} <= set(cut["said"])
    assert "left answer: its channels are an output of the model" in cut["said"]
    (record,) = (tmp_path / "work" / "candidates").glob("*/record.json")
    assert str(place / "extra.npy") in record.read_text(), "what training read is looked at when the search is resumed"


def test_without_training_it_is_not_right(place: Path) -> None:
    points, labels = point_clouds.rows(ROWS, 2)
    rows = Dataset({"points": points}, labels, "")
    request = SourceSpec("tests.benchmarks.optimize.point_clouds:build", place / "weights.safetensors")
    cut, _ = retrained.load(request, rows, Cut("structured", 0.5), "", 0)
    (want,), (have,) = (source.run({"points": points}) for source in (torch_factory.load(request, rows), cut))
    got, expected = {"output": have}, {"output": want}
    metric = METRICS["accuracy"]
    judged, reference = (evaluate.compare(metric, answers, expected, labels, 0) for answers in (got, expected))
    assert reference.score.value > 0.9
    reason = decide.not_accurate("accuracy", judged, reference, evaluate.allowance("1%"))
    assert reason is not None
    assert reason.startswith("not accurate enough")


def test_training_may_not_use_the_network(place: Path, tmp_path: Path) -> None:
    points, _ = point_clouds.rows(64, 2)
    options = {"prune": "structured", "share": "0.5", "train": "pruning_training:calls_home"}
    options |= {"factory": "tests.benchmarks.optimize.point_clouds:build", "weights": "", "outputs": "", "axes": ""}
    job = PassJob(place, tmp_path, options, Dataset({"points": points}, None, ""), hardware.detect(), 0)
    with pytest.raises(PassFailed, match="the model tried to use the network"):
        passes.PASSES[PRUNED].load()(job)
