"""The figures of the documentation: how much the recipes win on two well-known shapes, in ratios of one run.

``python -m tests.benchmarks.optimize minilm|resnet50 [WEIGHTS]``. Weights are random unless a safetensors file
of MiniLM-L6 is given: speed does not depend on them, similarity does. ``search`` times the whole command on ResNet-50,
which has 25.6 million parameters; ``pruned`` cuts and retrains a network that is wider than its task. Where
``tokenizer.json`` lies beside the weights of MiniLM, its rows are real text.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console

from optimize import hardware, passes
from optimize.errors import PassFailed
from optimize.evaluation import evaluate
from optimize.evaluation.dataset import Dataset
from optimize.evaluation.metrics import METRICS
from optimize.package import prepack
from optimize.passes import PassJob, PassRecord, backend_of
from optimize.sandbox import captured_output
from optimize.search import decide, sensitivity
from optimize.search.benchmark import MeasurementConfig, measure
from optimize.search.candidates import FLOAT32, Candidate
from optimize.search.selection import select

if TYPE_CHECKING:
    import torch

ROUNDS = 12
BUDGET_S = 12.0
ROWS = 32
REPAIRED = ("dynamic_int8", "dynamic_int8_per_channel")
"""Also shown with the one or two most sensitive layers kept in float, as a repair does it."""

LOADS = 7
LOAD = """import sys, time
from pathlib import Path
from server.backends import BackendOptions, loader
load = loader(sys.argv[2])
options = BackendOptions(optimized=bool(sys.argv[3]))
begun, spent = time.perf_counter(), time.process_time()
load(Path(sys.argv[1]), options)
print(1e3 * (time.perf_counter() - begun), 1e3 * (time.process_time() - spent))
"""
"""A fresh process that loads one file: wall clock and processor time in milliseconds."""

SEARCH, PRUNED = "search", "pruned"
PRUNED_ROWS = 8000
SEARCH_BUDGET, SEARCH_ROWS = "5m", 60
SHAPES: dict[str, Sequence[tuple[int, int]]] = {"minilm": ((1, 32), (8, 128)), "resnet50": ((1, 224),)}
RECIPES = {
    "minilm": ("dynamic_*", "fused*", "static_int8", "weights_*", "openvino*"),
    "resnet50": ("static_int8", "static_int8_percentile", "openvino*"),
}


def main(name: str, weights: Path | None) -> None:
    """Export, make the candidates, and print their ratio to float32 and their cosine at each shape."""
    console = Console(highlight=False, width=120)
    weights = weights.resolve() if weights else None
    # The tools leave files behind in the folder that they are started in.
    with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch):
        reference = Path(scratch) / "float32.onnx"
        with captured_output.captured():
            export(name, weights, reference)
        rng = np.random.default_rng(0)
        words = weights.with_name("tokenizer.json") if weights else None
        words = words if words and words.is_file() else None
        data = {size: text(words, size) if words else rows(name, size, rng) for _, size in SHAPES[name]}
        files = {FLOAT32: reference} | _build(name, reference, data[SHAPES[name][-1][1]], console)
        for batch, size in SHAPES[name]:
            _compare(files, data[size], batch, size, console)
        for label, path in files.items():
            done = prepack.prepack(path, Path(scratch) / f"finished-{label}", rows(name, 32, rng), portable=False)
            _loads(label, path, optimized=False, console=console)
            if done.prepacked:
                _loads(f"{label}, mapped", done.files[0], optimized=True, console=console, weights=path)


def _loads(label: str, path: Path, *, optimized: bool, console: Console, weights: Path | None = None) -> None:
    """Print the fastest and the median load of a few fresh processes, by 100 MB of the plain file's weights."""
    home = str(Path(__file__).parents[3])
    job = (sys.executable, "-c", LOAD, str(path), backend_of(path), "1" if optimized else "")
    taken = []
    for _ in range(LOADS):
        answer = subprocess.run(job, cwd=home, capture_output=True, text=True, check=True, timeout=120)
        taken.append([float(word) for word in answer.stdout.split()])
    plain = weights or path
    beside = (plain, plain.with_suffix(".bin"), plain.with_name(f"{plain.name}.data"))
    size = sum(file.stat().st_size for file in beside if file.is_file()) / 1e8
    wall, spent = np.array(taken).T
    console.print(
        f"{label:28} loads in {wall.min():6.1f} ms ({np.median(wall):.1f}), {spent.min():.1f} of the processor: "
        f"{wall.min() / size:.0f} / 100 MB"
    )


def pruned() -> None:
    """The whole command on a network that is wider than its task: what a cut and retrained form of it wins."""
    import torch
    from safetensors.torch import save_file

    from optimize import options, pipeline
    from optimize.package import verify
    from optimize.progress import Display
    from tests.benchmarks.optimize import point_clouds

    console = Console(highlight=False, width=140)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        torch.manual_seed(0)
        network = point_clouds.build()
        point_clouds.train(network)
        save_file(network.state_dict(), folder / "weights.safetensors")
        points, labels = point_clouds.rows(PRUNED_ROWS, 2)
        np.savez(folder / "eval.npz", points=points, labels=labels)
        given = options.parse(
            [
                *("tests.benchmarks.optimize.point_clouds:build", "--weights", str(folder / "weights.safetensors")),
                *(
                    "--prune",
                    "0.5,0.75",
                    "--train",
                    "tests.benchmarks.optimize.point_clouds:train",
                    "--eval",
                    str(folder / "eval.npz"),
                ),
                *("--threads", "1", "--output", str(folder / "artifact")),
            ]
        )
        written = pipeline.run(given, f"python -m tests.benchmarks.optimize {PRUNED}", Display(console))
    console.print(verify.table(written.manifest))


def whole(budget: str = SEARCH_BUDGET) -> None:
    """The whole search, from the factory to the artifact: how long it took, and what had no time left."""
    from optimize import options, pipeline
    from optimize.package import verify
    from optimize.progress import Display

    console = Console(highlight=False, width=140)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        images = np.random.default_rng(0).normal(size=(SEARCH_ROWS, 3, 224, 224)).astype(np.float32)
        np.savez(folder / "eval.npz", image=images)
        given = options.parse(
            [
                *(
                    "tests.benchmarks.optimize.networks:resnet50",
                    "--eval",
                    str(folder / "eval.npz"),
                    "--metric",
                    "cosine",
                ),
                *("--max-drop", "2%", "--batch-sizes", "1,8", "--budget", budget, "--output", str(folder / "artifact")),
            ]
        )
        began = time.monotonic()
        written = pipeline.run(given, "python -m tests.benchmarks.optimize search", Display(console))
        took_s = time.monotonic() - began
    console.print(verify.table(written.manifest))
    outcomes = written.manifest.evidence["candidates"]
    missed = [row["name"] for row in outcomes if row["reason"].startswith("not tried")]
    console.print(f"{took_s:.0f} s from the factory to the artifact, {budget} asked for; {len(outcomes)} candidates")
    console.print(f"had no time left: {', '.join(missed) or 'none'}", soft_wrap=True)


def rows(name: str, size: int, rng: np.random.Generator) -> Dataset:
    """Random rows: token numbers of ``size`` tokens, or images of ``size`` pixels."""
    if name == "resnet50":
        return Dataset({"image": rng.normal(size=(ROWS, 3, 224, 224)).astype(np.float32)}, None, "")
    tokens = rng.integers(1000, 30_000, (ROWS, size))
    return Dataset({"input_ids": tokens, "attention_mask": np.ones_like(tokens)}, None, "")


def text(tokenizer: Path, size: int) -> Dataset:
    """Rows of ``size`` real tokens: pieces of our own documentation, by the model's own tokenizer."""
    from tokenizers import Tokenizer

    pages = sorted((Path(__file__).parents[3] / "docs").glob("*.md"))
    reader = Tokenizer.from_file(str(tokenizer))
    reader.no_padding()
    reader.no_truncation()
    words = [reader.encode(page.read_text(encoding="utf-8"), add_special_tokens=False).ids for page in pages]
    begin, *_, end = reader.encode("").ids
    every = [number for page in words for number in page]
    step = size - 2
    # Spread over all pages: neighbouring pieces are about the same thing.
    starts = np.linspace(0, len(every) - step, ROWS).astype(int)
    tokens = np.array([[begin, *every[start : start + step], end] for start in starts], np.int64)
    return Dataset({"input_ids": tokens, "attention_mask": np.ones_like(tokens)}, None, "")


def export(name: str, weights: Path | None, path: Path) -> None:
    """Write the float32 graph with a free batch axis, and for tokens a free length."""
    import onnx
    import onnx_ir
    import torch

    from optimize.sources.baseline import clean
    from optimize.sources.torch_module import dynamo, rename
    from tests.benchmarks.optimize.networks import minilm, resnet50

    torch.manual_seed(0)
    module: torch.nn.Module = minilm(weights) if name == "minilm" else resnet50()
    example = rows(name, 16, np.random.default_rng(0)).batch(2)
    axes = {0: "batch"} if name == "resnet50" else {0: "batch", 1: "length"}
    model = dynamo(module.eval(), example, dict.fromkeys(example, axes))
    rename(model, tuple(example), ("output",))
    onnx.save(clean(onnx_ir.to_proto(model)), path)


def _build(name: str, reference: Path, calibration: Dataset, console: Console) -> dict[str, Path]:
    machine = hardware.detect()
    files: dict[str, Path] = {}
    for candidate in select(RECIPES[name], machine.flags):
        try:
            record = _apply(candidate, reference, calibration, machine)
            files[candidate.name] = record.path
            if candidate.name in REPAIRED:
                ranking = [row.tensor for row in sensitivity.rank(reference, record.path, calibration)]
                for kept in (1, 2):
                    again = _apply(candidate, reference, calibration, machine, tuple(ranking[:kept]))
                    files[f"{candidate.name}, {kept} kept"] = again.path
        except PassFailed as error:
            console.print(f"{candidate.name:28} failed: {error}", markup=False)
    return files


def _apply(
    candidate: Candidate,
    reference: Path,
    calibration: Dataset,
    machine: hardware.Hardware,
    keep_float: tuple[str, ...] = (),
) -> PassRecord:
    record = PassRecord(reference, {})
    for position, recipe in enumerate(candidate.recipe):
        workdir = reference.parent / f"{candidate.name}-{len(keep_float)}-{position}"
        workdir.mkdir()
        job = PassJob(record.path, workdir, candidate.options, calibration, machine, 0, keep_float)
        record = passes.PASSES[recipe].load()(job)
    return record


def _compare(files: Mapping[str, Path], data: Dataset, batch: int, size: int, console: Console) -> None:
    timings = measure(files, data, MeasurementConfig((batch,), (1,), ROUNDS, BUDGET_S), lambda *_: None)
    expected = evaluate.outputs(files[FLOAT32], data, 8, 1)
    home = decide.best_cell(timings, FLOAT32, "latency")
    for label, path in files.items():
        cell = decide.best_cell(timings, label, "latency")
        ratio = decide.speed_up(timings, cell, home, 0)
        cosine = METRICS["cosine"].scores(evaluate.outputs(path, data, 8, 1), expected, None)
        console.print(
            f"{label:28} {batch} x {size}: {timings[cell].p50_us / 1e3:8.2f} ms  {ratio.value:.2f}x "
            f"({ratio.low:.2f} to {ratio.high:.2f})  cosine {cosine.mean():.4f}, least {cosine.min():.4f}"
        )


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in (*SHAPES, SEARCH, PRUNED):
        sys.exit(
            f"usage: python -m tests.benchmarks.optimize {'|'.join(SHAPES)} [WEIGHTS], {SEARCH} [BUDGET], or {PRUNED}"
        )
    if sys.argv[1] == SEARCH:
        whole(*sys.argv[2:3])
    elif sys.argv[1] == PRUNED:
        pruned()
    else:
        main(sys.argv[1], Path(sys.argv[2]) if len(sys.argv) > 2 else None)
