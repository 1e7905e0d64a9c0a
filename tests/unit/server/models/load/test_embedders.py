"""Which pipelines are embedders: from a tokenizer to vectors, and not to the scores of a classifier."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from server.artifact import Artifact, Manifest
from server.errors import BrokenArtifact
from server.models.embedder import Embedder
from server.models.load.embedders import embedder_of
from server.tensors import BY_NAME, ModelSpec, TensorSpec
from server.wiring import Pipeline, Wiring

FIRST = {"name": "tokenize", "backend": "tokenizer"}
POOL = {"name": "pool", "backend": "pooling"}
HEAD = {"name": "head", "artifact": "head"}


class Session:
    """A session that is never run."""

    spec = ModelSpec((), ())

    def run(self, batch: Any) -> list[np.ndarray]:
        raise AssertionError

    def close(self) -> None:
        raise AssertionError


def embedder(steps: list[dict[str, Any]], names: tuple[str, ...] = ("scores",), **declared: Any) -> Embedder | None:
    """The embedder of a pipeline whose outputs, float32 [2, 4], are the last step's."""
    pipeline = Pipeline.from_json({"steps": steps, **declared})
    manifest = Manifest("m", "1", "pipeline", "pipeline.json", ModelSpec((), ()), pipeline=pipeline)
    outputs = tuple(TensorSpec(name, BY_NAME["FP32"], (-1, -1)) for name in names)
    wired = Wiring(((0,),), tuple(range(1, len(names) + 1)), ModelSpec((), outputs))
    values = [np.array(["a", "b"], object), *(np.zeros((2, 4), np.float32) for _ in names)]
    return embedder_of(Artifact(Path(), manifest), [Session()], wired, values)


def test_a_pooling_step_gives_vectors_as_its_options_say() -> None:
    found = embedder([FIRST, POOL])
    assert found is not None
    assert (found.width, found.normalized, found.pooling) == (4, True, "mean")
    found = embedder([FIRST, {**POOL, "normalize": False, "mode": "cls"}], dimensions=[3, 1])
    assert found is not None
    assert (found.normalized, found.pooling, found.dimensions) == (False, "cls", (1, 3))


@pytest.mark.parametrize(
    ("steps", "names", "declared", "expected"),
    [
        ([FIRST, HEAD], ("scores",), {}, False),
        ([FIRST, HEAD], ("sentence_embedding",), {}, True),
        ([FIRST, HEAD], ("scores",), {"task": "sentence-similarity"}, True),
        ([FIRST, HEAD], ("embedding", "scores"), {}, False),
        ([{"name": "image", "backend": "image"}, HEAD], ("embedding",), {}, False),
    ],
)
def test_what_is_an_embedder(steps: list[dict[str, Any]], names: Any, declared: dict[str, Any], expected: bool) -> None:
    assert (embedder(steps, names, **declared) is not None) is expected


def test_dimensions_beyond_the_vectors_are_refused() -> None:
    with pytest.raises(BrokenArtifact, match="have 4 only"):
        embedder([FIRST, POOL], dimensions=[2, 5])
    with pytest.raises(BrokenArtifact, match="whole numbers"):
        embedder([FIRST, POOL], dimensions=[0])
