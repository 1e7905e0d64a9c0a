"""The module for AOTInductor: float32 outside, the lower type inside, names in the order of the graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from optimize.errors import PassFailed
from optimize.evaluation.dataset import Dataset
from optimize.hardware import Gpu, Hardware
from optimize.options import parse
from optimize.passes import PassJob, aoti_from_torch
from optimize.sources import dispatch


class Two(torch.nn.Module):
    """A float input, an integer input, and two outputs by name."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 3)
        self.seen: list[torch.dtype] = []

    def forward(self, ids: torch.Tensor, x: torch.Tensor) -> dict[str, torch.Tensor]:
        self.seen.append(x.dtype)
        return {"score": self.layer(x), "ids": ids + 1}


def test_floats_are_lowered_inside_and_nothing_else() -> None:
    module = Two()
    wrapped = aoti_from_torch.lowered(module, ("x", "ids"), torch.bfloat16)
    with torch.inference_mode():
        score, ids = wrapped(torch.ones(2, 4), torch.zeros(2, dtype=torch.int64))
    assert module.seen == [torch.bfloat16]
    assert (score.dtype, ids.dtype) == (torch.float32, torch.int64)
    assert ids.tolist() == [1, 1]


def test_without_a_gpu_the_candidate_fails_with_the_remedy(tmp_path: Path) -> None:
    gpu = Gpu("NVIDIA L4", "GPU-1", 89, "580", 1)
    data = Dataset({"x": np.ones((2, 4), np.float32)}, None, "")
    for machine in (Hardware("any", "x86_64", (), 1), Hardware("any", "x86_64", (), 1, gpu)):
        if machine.gpu and torch.cuda.is_available():
            continue
        with pytest.raises(PassFailed, match="install a build of torch for CUDA"):
            aoti_from_torch.apply(PassJob(tmp_path, tmp_path, {}, data, machine, 0))


def test_only_a_torch_factory_can_be_compiled_by_torch() -> None:
    least = ["--eval", "e.npz", "--output", "o", "--argument", "hidden=8"]
    (row,) = dispatch.compiled(parse(["examples.digits.model:build", *least]))
    assert row.options["factory"] == "examples.digits.model:build"
    assert row.options["arguments"] == '{"hidden": 8}'
    assert row.options["factory_sha256"]
    assert row.target == "cuda"
