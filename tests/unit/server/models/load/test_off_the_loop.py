"""Runs whose cost depends on what a client sends do not take place on the event loop, however cheap the sample was."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from server.backends.image import ImageSession, _photograph
from server.backends.onnxruntime import OnnxRuntimeSession
from server.backends.tokenizer import TokenizerSession
from server.models import Models
from server.observe.metrics import Metrics
from server.request import InferRequest
from server.settings.options import Settings
from server.tensors import Array
from tests.integration import sample_models


def text(root: Path) -> Array:
    """A pipeline of a tokenizer alone."""
    tokenizer = Tokenizer(models.WordLevel({"a": 0, "?": 1}, "?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(root / "tokenizer.json"))
    step = {"name": "tokens", "backend": "tokenizer", "file": "tokenizer.json"}
    (root / "pipeline.json").write_text(json.dumps({"steps": [step]}))
    return np.array(["a a a"], object)


def image(root: Path) -> Array:
    """A pipeline of an image step alone."""
    step = {"name": "pixels", "backend": "image", "size": 8}
    (root / "pipeline.json").write_text(json.dumps({"steps": [step]}))
    return _photograph(8)


def wide(root: Path) -> Array:
    """A tiny model of rows of any width."""
    sample_models.variable_width(root / "model.onnx")
    return np.zeros((1, 3), np.float32)


def narrow(root: Path) -> Array:
    """A tiny model of rows of one width, which runs on the loop."""
    sample_models.mlp(root / "model.onnx")
    return np.zeros((1, sample_models.MLP_FEATURES), np.float32)


@pytest.mark.parametrize(
    ("make", "session", "inline"),
    [
        (text, TokenizerSession, False),
        (image, ImageSession, False),
        (wide, OnnxRuntimeSession, False),
        (narrow, OnnxRuntimeSession, True),
    ],
)
def test_runs_of_any_size_take_place_on_another_thread(
    make: Callable[[Path], Array], session: type[Any], inline: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = make(tmp_path)
    threads: list[int] = []
    run = session.run

    def noted(self: Any, batch: Sequence[Array]) -> list[Array]:
        threads.append(threading.get_ident())
        return list(run(self, batch))

    async def go() -> InferRequest:
        registry = Models(Settings(inline_below_us=10_000_000, tune_ms=0), Metrics(lambda: True, "1"))
        model = await registry.load(tmp_path)
        threads.clear()  # the warm-up
        answered: asyncio.Future[InferRequest] = asyncio.get_running_loop().create_future()
        model.submit(InferRequest((given,), 1, answered.set_result))
        try:
            return await answered
        finally:
            await registry.close()

    monkeypatch.setattr(session, "run", noted)
    assert asyncio.run(go()).error is None
    assert [one == threading.get_ident() for one in threads] == [inline]
