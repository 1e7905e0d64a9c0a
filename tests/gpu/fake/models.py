"""The four models of the GPU tests as float32 ONNX files with a free batch axis and seeded weights."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

from examples.digits.model import DigitsNet
from optimize.sources import baseline
from tests.onnx_graphs import FLOAT, Value, graph, node

Rows = Mapping[str, np.ndarray[Any, Any]]
CACHE = Path(__file__).parents[3] / "build" / "gpu-fake"
"""Exporting takes a minute of processor time; the files are kept until this module or torch changes."""


@dataclass(frozen=True, slots=True)
class Model:
    """``build`` makes the graph. ``rows(count)`` makes inputs by name. ``length``: of a free axis 1; 0: none."""

    name: str
    build: Callable[[Model], onnx.ModelProto]
    rows: Callable[[int], Rows]
    make: Callable[[], nn.Module] | None = None
    length: int = 0


class Encoder(nn.Module):
    """A BERT of MiniLM's shape: 6 layers of width 384."""

    def __init__(self) -> None:
        from transformers import BertConfig, BertModel

        super().__init__()
        sizes: dict[str, Any] = {
            "hidden_size": 384,
            "num_hidden_layers": 6,
            "num_attention_heads": 12,
            "intermediate_size": 1536,
        }
        config = BertConfig(**sizes | {"attn_implementation": "eager"})
        self.bert = BertModel(config, add_pooling_layer=False)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
        return self.bert(input_ids, attention_mask).last_hidden_state


class Recurrent(nn.Module):
    """An LSTM of two layers and two directions over 20 steps of 16 values, and a layer on its last step."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(16, 32, num_layers=2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(64, 8)

    def forward(self, steps: torch.Tensor) -> Any:
        return self.head(self.lstm(steps)[0][:, -1])


def exported(model: Model) -> onnx.ModelProto:
    """The module as the exporter writes it and optimize cleans it."""
    assert model.make is not None
    torch.manual_seed(0)
    module = model.make().eval()
    rows = {name: torch.from_numpy(array) for name, array in model.rows(2).items()}
    free: dict[int, Any] = {0: torch.export.Dim("batch")}
    if model.length:
        free[1] = torch.export.Dim("length", max=512)
    program = torch.onnx.export(
        module,
        tuple(rows.values()),
        dynamo=True,
        input_names=list(rows),
        output_names=["answer"],
        dynamic_shapes=tuple(free for _ in rows),
        verbose=False,
    )
    assert program is not None
    return baseline.clean(program.model_proto)


def resnet50(model: Model) -> onnx.ModelProto:
    """ResNet-50 with its batch normalisations folded into the convolutions: 53 convolutions, 16 additions.

    The exporter writes the same graph and takes half a minute for it.
    """
    random = np.random.default_rng(0)
    nodes: list[onnx.NodeProto] = []
    weights: dict[str, np.ndarray[Any, Any]] = {}

    def convolution(source: str, name: str, channels: tuple[int, int], size: int, stride: int = 1) -> str:
        wide = channels[0] * size * size
        shape = (channels[1], channels[0], size, size)
        weights[f"{name}_w"] = (random.standard_normal(shape) * (2 / wide) ** 0.5).astype(np.float32)
        weights[f"{name}_b"] = np.zeros(channels[1], np.float32)
        pads = [size // 2] * 4
        attributes = {"pads": pads, "strides": [stride, stride], "kernel_shape": [size, size], "name": name}
        nodes.append(node("Conv", f"{source} {name}_w {name}_b", name, **attributes))
        return name

    def relu(source: str) -> str:
        nodes.append(node("Relu", source, f"{source}_relu", name=f"{source}_relu"))
        return f"{source}_relu"

    at = relu(convolution("pixels", "stem", (3, 64), 7, 2))
    pooling = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1] * 4, "name": "pool"}
    nodes.append(node("MaxPool", at, "pooled", **pooling))
    at, width = "pooled", 64
    for stage, (blocks, narrow) in enumerate(((3, 64), (4, 128), (6, 256), (3, 512))):
        for block in range(blocks):
            name, stride = f"s{stage}b{block}", 2 if block == 0 and stage else 1
            inner = relu(convolution(at, f"{name}_reduce", (width, narrow), 1))
            inner = relu(convolution(inner, f"{name}_middle", (narrow, narrow), 3, stride))
            inner = convolution(inner, f"{name}_expand", (narrow, 4 * narrow), 1)
            skip = convolution(at, f"{name}_skip", (width, 4 * narrow), 1, stride) if block == 0 else at
            nodes.append(node("Add", f"{inner} {skip}", f"{name}_sum", name=f"{name}_sum"))
            at, width = relu(f"{name}_sum"), 4 * narrow
    nodes.append(node("ReduceMean", at, "mean", axes=[2, 3], keepdims=0, name="mean"))
    weights["head_w"] = (random.standard_normal((2048, 1000)) / 2048**0.5).astype(np.float32)
    weights["head_b"] = np.zeros(1000, np.float32)
    nodes.append(node("Gemm", "mean head_w head_b", "answer", name="head"))
    inputs: list[Value] = [("pixels", FLOAT, ["batch", 3, 224, 224])]
    return graph(nodes, inputs, [("answer", FLOAT, ["batch", 1000])], weights)


def _random(name: str, *shape: int) -> Callable[[int], Rows]:
    return lambda count: {name: np.random.default_rng(0).random((count, *shape), np.float32)}


def _tokens(count: int) -> Rows:
    ids = np.random.default_rng(0).integers(1000, 30000, (count, 32))
    return {"input_ids": ids, "attention_mask": np.ones_like(ids)}


MODELS = {
    one.name: one
    for one in (
        Model("digits", exported, _random("image", 1, 8, 8), DigitsNet),
        Model("resnet50", resnet50, _random("pixels", 3, 224, 224)),
        Model("minilm", exported, _tokens, Encoder, length=32),
        Model("lstm", exported, _random("steps", 20, 16), Recurrent),
    )
}


def file(name: str) -> Path:
    """The ONNX file of a model; it is made on the first use."""
    stamp = hashlib.sha256(Path(__file__).read_bytes() + torch.__version__.encode()).hexdigest()[:12]
    path = CACHE / stamp / name / "model.onnx"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        made = path.with_suffix(".part")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter's own
            made.write_bytes(MODELS[name].build(MODELS[name]).SerializeToString())
        made.rename(path)
    return path
