"""PaddlePaddle: converts an inference model with paddle2onnx in the isolated environment."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from .protocol import GRAPH, Done, Job, main


def convert(job: Job) -> Done:
    """Write the graph and run the predictor of Paddle. Exceptions of Paddle are not wrapped."""
    model, weights = files(job.source)
    importlib.import_module("paddle2onnx").export(str(model), str(weights), str(job.directory / GRAPH), job.opset)
    inference = importlib.import_module("paddle.inference")
    settings = inference.Config(str(model), str(weights))
    settings.disable_gpu()
    settings.disable_glog_info()
    predictor = inference.create_predictor(settings)
    answers = [_answers(predictor, probe) for probe in job.probes]
    return Done(predictor.get_input_names(), predictor.get_output_names(), answers, "paddle2onnx")


def files(folder: Path) -> tuple[Path, Path]:
    """Return the graph (``.json`` since Paddle 3, ``.pdmodel`` before) and the weights. Raises FileNotFoundError."""
    weights = sorted(folder.glob("*.pdiparams"))
    if len(weights) != 1:
        raise FileNotFoundError(f"{len(weights)} .pdiparams files in the folder; one is needed")
    for suffix in (".json", ".pdmodel"):
        model = weights[0].with_suffix(suffix)
        if model.is_file():
            return model, weights[0]
    raise FileNotFoundError(f"no {weights[0].stem}.json or .pdmodel beside {weights[0].name}")


def _answers(predictor: Any, probe: Any) -> list[Any]:
    for name in predictor.get_input_names():
        predictor.get_input_handle(name).copy_from_cpu(probe[name])
    predictor.run()
    return [predictor.get_output_handle(name).copy_to_cpu() for name in predictor.get_output_names()]


if __name__ == "__main__":
    sys.exit(main(convert, ("paddle", "paddle.inference", "paddle2onnx")))
