"""TensorFlow: converts a SavedModel or a Keras file with tf2onnx in the isolated environment."""

from __future__ import annotations

import importlib
import runpy
import sys
from pathlib import Path
from typing import Any

from .protocol import GRAPH, Done, Job, main


def convert(job: Job) -> Done:
    """Write the graph and run the serving signature. Exceptions of TensorFlow are not wrapped."""
    tensorflow: Any = importlib.import_module("tensorflow")
    folder = job.source if job.source.is_dir() else _exported(tensorflow, job.source, job.directory / "exported")
    signature = tensorflow.saved_model.load(str(folder)).signatures["serving_default"]
    inputs = sorted(signature.structured_input_signature[1])
    outputs = sorted(signature.structured_outputs)
    answers = []
    for probe in job.probes:
        found = signature(**{name: tensorflow.constant(probe[name]) for name in inputs})
        answers.append([found[name].numpy() for name in outputs])
    _write(folder, job)
    return Done(inputs, outputs, answers, "tf2onnx")


def _exported(tensorflow: Any, path: Path, target: Path) -> Path:
    """Export a Keras file as a SavedModel, which fixes its signature. Code in the file is not run."""
    tensorflow.keras.models.load_model(str(path), compile=False, safe_mode=True).export(str(target), verbose=False)
    return target


def _write(folder: Path, job: Job) -> None:
    # The command line is the only stable interface of the converter for a SavedModel.
    command = ["--saved-model", str(folder), "--output", str(job.directory / GRAPH), "--opset", str(job.opset)]
    before = sys.argv
    sys.argv = ["tf2onnx", *command]
    try:
        runpy.run_module("tf2onnx.convert", run_name="__main__", alter_sys=True)
    except SystemExit as error:
        if error.code:
            raise RuntimeError(f"tf2onnx ended with {error.code}") from error
    finally:
        sys.argv = before


if __name__ == "__main__":
    sys.exit(main(convert, ("tensorflow", "tf2onnx")))
