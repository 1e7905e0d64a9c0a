"""TensorFlow: converts a SavedModel, a Keras file or a .tflite file with tf2onnx in the isolated environment."""

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
    if job.source.suffix == ".tflite":
        return _convert_lite(tensorflow, job)
    folder = job.source if job.source.is_dir() else _exported(tensorflow, job.source, job.directory / "exported")
    signature = tensorflow.saved_model.load(str(folder)).signatures["serving_default"]
    inputs = sorted(signature.structured_input_signature[1])
    outputs = sorted(signature.structured_outputs)
    answers = []
    for probe in job.probes:
        found = signature(**{name: tensorflow.constant(probe[name]) for name in inputs})
        answers.append([found[name].numpy() for name in outputs])
    _write("--saved-model", folder, job)
    return Done(inputs, outputs, answers, "tf2onnx")


def _exported(tensorflow: Any, path: Path, target: Path) -> Path:
    """Export a Keras file as a SavedModel, which fixes its signature. Code in the file is not run."""
    tensorflow.keras.models.load_model(str(path), compile=False, safe_mode=True).export(str(target), verbose=False)
    return target


def _convert_lite(tensorflow: Any, job: Job) -> Done:
    """Write the graph of a .tflite file and run its interpreter. Inputs are found in the rows by their short names."""
    interpreter = tensorflow.lite.Interpreter(model_path=str(job.source))
    places, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    answers = []
    for probe in job.probes:
        arrays = [probe[_short(place["name"], probe)] for place in places]
        for place, array in zip(places, arrays, strict=True):
            interpreter.resize_tensor_input(place["index"], array.shape)
        interpreter.allocate_tensors()
        for place, array in zip(places, arrays, strict=True):
            interpreter.set_tensor(place["index"], array)
        interpreter.invoke()
        answers.append([interpreter.get_tensor(output["index"]) for output in outputs])
    _write("--tflite", job.source, job)
    names = [_short(place["name"], job.probes[0]) for place in places]
    renamed = {place["name"]: name for place, name in zip(places, names, strict=True)}
    return Done(names, [output["name"] for output in outputs], answers, "tf2onnx", renamed)


def _short(name: str, arrays: Any) -> str:
    """Return the name under which the rows hold the input ``name``, such as ``x`` for ``serving_default_x:0``."""
    short = name.partition(":")[0].removeprefix("serving_default_")
    return next((key for key in (name, short) if key in arrays), short)


def _write(option: str, path: Path, job: Job) -> None:
    # The command line is the only stable interface of the converter.
    command = [option, str(path), "--output", str(job.directory / GRAPH), "--opset", str(job.opset)]
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
