"""Zoo models of torch: small modules exported to ONNX; their right answers come from the module in inference mode."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .model import Answer, MakeInputs, Tensors, ZooModel
from .onnx_graph import floats, of_dtype, sizes


def _exporter(
    module: Callable[[], Any], inputs: MakeInputs, outputs: Sequence[str], free: dict[str, dict[int, str]]
) -> Callable[[Path], Path]:
    def build(folder: Path) -> Path:
        import torch

        example = {name: torch.from_numpy(array) for name, array in inputs(np.random.default_rng(0), 2).items()}
        path = folder / "model.onnx"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # The older exporter takes 50 ms a module and needs no second library; the newer one takes seconds.
            torch.onnx.export(
                module(),
                tuple(example.values()),
                str(path),
                input_names=list(example),
                output_names=list(outputs),
                dynamic_axes=free,
                opset_version=17,
                dynamo=False,
            )
        return path

    return build


def module_row(
    name: str,
    make: Callable[[Any], Any],
    inputs: MakeInputs,
    why: str,
    free: dict[str, dict[int, str]],
    outputs: Sequence[str] = ("y",),
    **fields: Any,
) -> ZooModel:
    """A zoo model of the module ``make(torch.nn)``; ``free`` names the free axes of inputs and outputs."""

    @cache
    def module() -> Any:
        import torch

        with torch.random.fork_rng():
            torch.manual_seed(5)
            return make(torch.nn).eval()

    def source(_: Path) -> Answer:
        import torch

        torch.set_num_threads(1)  # threads that wait for each other cost more than these modules

        def answer(given: Tensors) -> dict[str, Any]:
            with torch.inference_mode():
                found = module()(*(torch.from_numpy(np.array(array)) for array in given.values()))
            several = found if isinstance(found, tuple) else (found,)
            return {output: tensor.numpy() for output, tensor in zip(outputs, several, strict=True)}

        return answer

    return ZooModel(name, _exporter(module, inputs, outputs, free), inputs, source, why, **fields)


def _wrapped(nn: Any, forward: Callable[..., Any], **parts: Any) -> Any:
    """A module of ``parts`` whose ``forward(self, *inputs)`` is the given function."""
    made = type("Wrapped", (nn.Module,), {"forward": forward})()
    for part, module in parts.items():
        setattr(made, part, module)
    return made


def _ids(random: np.random.Generator, rows: int) -> dict[str, NDArray[Any]]:
    length = int(random.integers(1, 9))
    return {"ids": random.integers(0, 20, (rows, length))}


_N: dict[int, str] = {0: "N"}
_ROWS = {"x": _N, "y": _N}

MODULES: tuple[ZooModel, ...] = (
    module_row(
        "torch-perceptron",
        lambda nn: nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 3)),
        floats(x=(6,)),
        "batch normalisation and dropout in inference mode",
        _ROWS,
    ),
    module_row(
        "torch-convolution",
        lambda nn: nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)),
        floats(x=(2, 6, 6)),
        "an image of fixed size",
        _ROWS,
    ),
    module_row(
        "torch-upsampling",
        lambda nn: nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.Upsample(scale_factor=2)),
        sizes(x=("rows", 1, "h", "w")),
        "the output is larger than the image",
        {"x": {0: "N", 2: "h", 3: "w"}, "y": {0: "N", 2: "h2", 3: "w2"}},
    ),
    module_row(
        "torch-lstm-batch-first",
        lambda nn: _wrapped(nn, lambda self, x: self.lstm(x)[0], lstm=nn.LSTM(3, 4, batch_first=True)),
        floats(x=(5, 3)),
        "a recurrent layer with the batch first",
        _ROWS,
    ),
    module_row(
        "torch-lstm-time-first",
        lambda nn: _wrapped(nn, lambda self, x: self.lstm(x.unsqueeze(1))[0].squeeze(1), lstm=nn.LSTM(3, 4)),
        floats(x=(3,)),
        "the first axis is time",
        {"x": {0: "time"}, "y": {0: "time"}},
        independent=False,
    ),
    module_row(
        "torch-attention-over-rows",
        lambda nn: _wrapped(
            nn, lambda self, x: self.attend(x, x, x, need_weights=False)[0], attend=nn.MultiheadAttention(4, 2)
        ),
        floats(x=(4,)),
        "rows attend to each other",
        _ROWS,
        independent=False,
    ),
    module_row(
        "torch-attention-inside",
        lambda nn: _wrapped(
            nn,
            lambda self, x: x + (self.q(x) @ self.k(x).transpose(1, 2)).softmax(2) @ x,
            q=nn.Linear(8, 8),
            k=nn.Linear(8, 8),
        ),
        floats(x=(4, 8)),
        "attention inside a row",
        _ROWS,
        atol=1e-4,
    ),
    module_row(
        "torch-embedding-bag",
        lambda nn: _wrapped(nn, lambda self, ids: self.table(ids).mean(1), table=nn.Embedding(20, 4)),
        _ids,
        "the mean over a free length: a padded row is another row",
        {"ids": {0: "N", 1: "length"}, "y": _N},
    ),
    module_row(
        "torch-instance-norm",
        lambda nn: nn.InstanceNorm1d(3),
        floats(x=(3, 7)),
        "statistics of a row",
        _ROWS,
        atol=1e-4,
    ),
    module_row(
        "torch-batch-statistics",
        lambda nn: _wrapped(nn, lambda self, x: (x - x.mean(0)) / (x.var(0, unbiased=False) + 1e-3).sqrt()),
        floats(x=(3,)),
        "statistics of the batch, in inference mode too",
        _ROWS,
        independent=False,
        row_counts=(2, 5),
        atol=1e-3,
    ),
    module_row(
        "torch-two-towers",
        lambda nn: _wrapped(
            nn, lambda self, user, item: (self.a(user) * self.b(item)).sum(1), a=nn.Linear(3, 4), b=nn.Linear(2, 4)
        ),
        floats(user=(3,), item=(2,)),
        "two inputs, one number a row",
        {"user": _N, "item": _N, "y": _N},
    ),
    module_row(
        "torch-retrieval",
        lambda nn: _wrapped(nn, lambda self, query, items: self.a(query) @ self.a(items).T, a=nn.Linear(3, 4)),
        sizes(query=("rows", 3), items=("m", 3)),
        "each query is compared with each item",
        {"query": {0: "queries"}, "items": {0: "items"}, "y": {0: "queries", 1: "items"}},
        independent=False,
    ),
    module_row(
        "torch-several-heads",
        lambda nn: _wrapped(
            nn,
            lambda self, x: (self.a(x).softmax(1), self.b(x)[:, 0], x.argmax(1)),
            a=nn.Linear(3, 2),
            b=nn.Linear(3, 1),
        ),
        floats(x=(3,)),
        "three outputs of different rank and dtype",
        {"x": _N, "p": _N, "score": _N, "best": _N},
        ("p", "score", "best"),
    ),
    module_row(
        "torch-pixels",
        lambda nn: _wrapped(
            nn, lambda self, x: self.net(x.float() / 255), net=nn.Sequential(nn.Flatten(), nn.Linear(27, 2))
        ),
        of_dtype(np.uint8, 0, 256, (3, 3, 3)),
        "bytes in, divided inside",
        _ROWS,
    ),
)
