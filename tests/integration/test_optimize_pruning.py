"""A really trained network cut to a quarter of its channels: right again after training, rejected without."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from optimize import decide, evaluate, hardware, passes
from optimize.candidates import PRUNED, STATIC
from optimize.dataset import Dataset
from optimize.metrics import METRICS
from optimize.passes import PassJob, PassRecord

TRAINING = """
import torch
from torch.nn.functional import cross_entropy
from examples.digits.train import load

def tune(module):
    torch.set_num_threads(1)
    training = load(7)[0]
    images, labels = torch.from_numpy(training.image), torch.from_numpy(training.labels)
    optimizer = torch.optim.AdamW(module.parameters(), 3e-3)
    for _ in range(8):
        for rows in torch.randperm(len(labels)).split(64):
            optimizer.zero_grad()
            cross_entropy(module.logits(images[rows]), labels[rows]).backward()
            optimizer.step()

def calls_home(module):
    import socket
    socket.create_connection(("127.0.0.1", 9))
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the trained weights, and the module with the training functions on the path."""
    pytest.importorskip("sklearn", reason="the extra 'examples' is not installed")
    from safetensors.torch import save_file

    from examples.digits.train import load, train

    folder = tmp_path_factory.mktemp("pruning")
    (folder / "pruning_training.py").write_text(TRAINING)
    training, calibration, held_out = load(7)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    save_file(train(training, 5, 7, lambda *_: None).state_dict(), folder / "weights.safetensors")
    torch.set_num_threads(threads)
    for name, part in (("calibration", calibration), ("eval", held_out)):
        part.save(folder / f"{name}.npz")
    return folder


def data(place: Path, name: str) -> tuple[Dataset, Dataset]:
    with np.load(place / f"{name}.npz") as archive:
        rows = Dataset({"image": archive["image"]}, archive["labels"], "")
    return rows, Dataset(rows.inputs, None, "")


def prune(place: Path, workdir: Path, train: str) -> PassRecord:
    options = {
        "prune": "structured",
        "share": "0.75",
        "train": f"pruning_training:{train}" if train else "",
        "factory": "examples.digits.model:build",
        "weights": str(place / "weights.safetensors"),
        "outputs": "",
        "axes": "",
    }
    workdir.mkdir()
    machine = hardware.detect()
    return passes.resolve(PRUNED)(PassJob(place, workdir, options, data(place, "calibration")[1], machine, 0))


@pytest.fixture
def _on_path(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(place))


def reason(place: Path, pruned: Path, tuned: Path) -> str | None:
    """What the gate says of ``pruned``; the tuned network, which is as good as the whole one, is what it is held to."""
    rows, bare = data(place, "eval")
    got, expected = (evaluate.outputs(path, bare, 64, 1) for path in (pruned, tuned))
    metric, labels = METRICS["accuracy"], rows.labels
    reference = evaluate.compare(metric, expected, expected, labels, 0)
    assert reference.score.value > 0.94
    return decide.not_accurate(
        "accuracy", evaluate.compare(metric, got, expected, labels, 0), reference, evaluate.allowance("3%")
    )


@pytest.mark.usefixtures("_on_path")
def test_training_after_the_cut_is_what_makes_it_right(place: Path, tmp_path: Path) -> None:
    tuned = prune(place, tmp_path / "tuned", "tune")
    assert tuned.base == tuned.path
    assert {"cut near: 32 -> 8 channels", "cut wide: 64 -> 16 channels", "cut hidden: 128 -> 32 channels"} <= set(
        tuned.said
    )
    assert "left answer: they go into 'softmax', which is not known to keep channels apart" in tuned.said
    shapes = sorted(tuple(tensor.dims) for tensor in onnx.load(tuned.path).graph.initializer if len(tensor.dims) == 4)
    assert shapes == [(8, 1, 3, 3), (16, 8, 3, 3)]
    bare = prune(place, tmp_path / "bare", "")
    assert "not accurate enough" in (reason(place, bare.path, tuned.path) or "")

    rows = data(place, "calibration")[1]
    (tmp_path / "int8").mkdir()
    job = PassJob(tuned.path, tmp_path / "int8", {"calibrate": "minmax"}, rows, hardware.detect(), 0)
    assert reason(place, passes.resolve(STATIC)(job).path, tuned.path) is None


@pytest.mark.usefixtures("_on_path")
def test_training_may_not_use_the_network(place: Path, tmp_path: Path) -> None:
    from optimize.errors import PassFailed

    with pytest.raises(PassFailed, match="the model tried to use the network"):
        prune(place, tmp_path / "caller", "calls_home")
