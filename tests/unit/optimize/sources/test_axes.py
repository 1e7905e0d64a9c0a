"""Free axes: read from the option, found in the data, and cut for the proof."""

from __future__ import annotations

import numpy as np
import pytest

from optimize.errors import BadInput
from optimize.evaluation.dataset import Dataset
from optimize.sources import axes
from optimize.sources.axes import Axis

TOKENS = (Axis("ids", 1, "tokens"), Axis("mask", 1, "tokens"))


@pytest.fixture
def data() -> Dataset:
    return Dataset({"ids": np.arange(48).reshape(4, 12), "mask": np.ones((4, 12), np.int64)}, None, "")


def test_the_option_names_axes() -> None:
    assert axes.parse("ids:1=tokens, mask:1=tokens") == TOKENS
    assert axes.parse("") == ()
    assert axes.symbols(TOKENS, ("ids", "other")) == {"ids": {0: "batch", 1: "tokens"}, "other": {0: "batch"}}


@pytest.mark.parametrize("text", ["ids", "ids:1", "ids:x=tokens", "ids:0=rows", "ids:1=batch", "ids:1=two words"])
def test_an_option_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="--dynamic"):
        axes.parse(text)


def test_probes_have_every_batch_size_and_several_lengths(data: Dataset) -> None:
    found = axes.probes(data, TOKENS, (1, 8, 2))
    assert [(probe.batch_size, probe.lengths["tokens"]) for probe in found] == [
        (1, 12),
        (2, 12),
        (8, 12),
        (2, 3),
        (2, 6),
    ]
    assert found[3].inputs["ids"].shape == found[3].inputs["mask"].shape == (2, 3)
    assert found[3].inputs["ids"].tolist() == data.inputs["ids"][2:4, :3].tolist(), "real rows, cut"
    assert str(found[3]) == "batch size 2, tokens 3"


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ((Axis("absent", 1, "tokens"),), "names 'absent'"),
        ((Axis("ids", 2, "tokens"),), "has no axis 2"),
        ((Axis("ids", 1, "tokens"), Axis("image", 1, "tokens")), "is 12 in one input of the data and 1 in 'image'"),
        ((Axis("image", 1, "width"),), "no other size can be verified"),
    ],
)
def test_axes_that_the_data_cannot_verify_are_refused(data: Dataset, wanted: tuple[Axis, ...], words: str) -> None:
    both = Dataset({**data.inputs, "image": np.ones((4, 1), np.float32)}, None, "")
    with pytest.raises(BadInput, match=words):
        axes.probes(both, wanted, (1,))
