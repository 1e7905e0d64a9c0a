"""Embedders: which pipelines give one vector for each text, and what the routes for embeddings need of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from ...artifact import Artifact
from ...backends import Session, Tokenizing
from ...errors import BrokenArtifact
from ...tensors import Array
from ...wiring import Wiring
from ..embedder import Embedder

TOKENIZER, POOLING = "tokenizer", "pooling"
TASKS = frozenset(("embedding", "embeddings", "feature-extraction", "sentence-similarity", "text-embedding"))


def embedder_of(
    artifact: Artifact, sessions: Sequence[Session], wired: Wiring, values: Sequence[Array]
) -> Embedder | None:
    """The embedder of a pipeline, None if it does not begin with a tokenizer and give vectors.

    Its vectors are the only output of real numbers with one row for each text. They come out of a pooling step, or are
    named so, or the task says so: the scores of a classifier have the same shape. ``values`` are those of the warm-up.
    Raises BrokenArtifact for dimensions that the vectors do not have.
    """
    declared = artifact.manifest.pipeline
    assert declared is not None
    if declared.steps[0].backend != TOKENIZER:
        return None
    vectors = [
        number
        for number, spec in enumerate(wired.spec.outputs)
        if spec.dtype.numpy.kind == "f" and len(spec.shape) == 2 and values[wired.outputs[number]].ndim == 2
    ]
    if len(vectors) != 1:
        return None
    output = vectors[0]
    last = declared.steps[-1]
    pooled = last.backend == POOLING and wired.outputs[output] == len(values) - 1
    named = "embedding" in wired.spec.outputs[output].name.lower()
    if not (pooled or named or (artifact.manifest.task or declared.task).lower() in TASKS):
        return None
    width = int(values[wired.outputs[output]].shape[1])
    if declared.dimensions and declared.dimensions[-1] > width:
        raise BrokenArtifact(f"'dimensions' has {declared.dimensions[-1]}, and the vectors have {width} only")
    options: Mapping[str, Any] = last.options if pooled else {}
    return Embedder(
        cast(Tokenizing, sessions[0]),
        output,
        width,
        declared.dimensions,
        normalized=pooled and options.get("normalize", True) is True,
        pooling=str(options.get("mode", "mean")) if pooled else "",
    )
