"""Stages: the digits model, trained here, in float32, TF32 and half precision on the device; optimized and served."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from tests.integration.server_process import ROOT

from . import sessions
from .networks import WITHIN_DB
from .record import NotRun, Record
from .served import serving
from .stages import Place

LEAST_DB = {"float32": 90.0, "tf32": 45.0, "float16": 45.0}
"""Least signal-to-noise against float32 on the CPU: TF32 and half have mantissas of 10 bits, about 60 dB a rounding."""


def digits(place: Place, record: Record) -> None:
    path, images, labels = _model(place.work)
    reference = sessions.run(sessions.open_session(Place("cpu", place.work), path), {"image": images})
    right = float((reference[0].argmax(-1) == labels).mean())
    record.check("the trained model is right on the CPU", right > 0.97, f"{right:.2%} of {len(labels)} digits")
    half = _half(path, images, place.work)
    for precision, file, options in (
        ("float32", path, {}),
        ("tf32", path, {"use_tf32": "1"}),
        ("float16", half, {}),
    ):
        session = sessions.open_session(place, file, **options)
        left = sessions.compute_on_cpu(session) if place.on_gpu else []
        record.check(f"{precision}: no node computes on the CPU", not left, left or "none")
        got = sessions.run(session, {"image": images})
        decibels = sessions.signal_to_noise_db(reference, got)
        record.figure(f"{precision}: signal to noise", decibels, "dB")
        record.check(f"{precision}: parity", decibels >= LEAST_DB[precision], f"{decibels:.1f} dB", of_values=True)
        same = float((got[0].argmax(-1) == reference[0].argmax(-1)).mean())
        record.check(f"{precision}: labels", same >= 0.998, f"{same:.2%} as on the CPU", of_values=True)
    session = sessions.open_session(Place("cpu", place.work), place.work / "digits-float16-twin.onnx")
    forecast = sessions.signal_to_noise_db(reference, sessions.run(session, {"image": images}))
    record.figure("float16: forecast of the twin", forecast, "dB")
    if place.on_gpu:
        close = abs(decibels - forecast) <= WITHIN_DB
        told = f"{forecast:.1f} dB forecast, {decibels:.1f} dB shown"
        record.check("float16: the twin forecasts it", close, told, of_values=True)


def _model(work: Path) -> tuple[Path, Any, Any]:
    """The digits model, trained for a few epochs and exported; images and labels that it has not seen."""
    from examples.digits import train
    from optimize.sources.torch_module import export_module

    training, calibration, held_out = train.load(7)
    model = train.train(training, 8, 7, lambda *_: None).eval()
    path = work / "digits.onnx"
    from safetensors.torch import save_file

    save_file(model.state_dict(), work / "digits.safetensors")
    calibration.save(work / "digits-calibration.npz")
    held_out.save(work / "digits-eval.npz")
    export_module(model, {"image": held_out.image[:2]}, ("probabilities",), (), path)
    return path, held_out.image, held_out.labels


def _half(path: Path, images: Any, work: Path) -> Path:
    """The float16 graph of the project's own pass, with its twin beside it."""
    import onnx_ir

    from optimize.evaluation.dataset import Dataset
    from optimize.passes import twin
    from optimize.passes.half_from_float32 import convert
    from optimize.passes.ranges import observe

    target = work / "digits-float16.onnx"
    model = onnx_ir.load(path)
    convert(model, "float16", observe(path, Dataset({"image": np.asarray(images)[:64]}, None, "")))
    onnx_ir.save(model, target)
    twin.write(target, work / "digits-float16-twin.onnx")
    return target


def optimized(place: Place, record: Record) -> None:
    """One command finds the fastest variant for this GPU, and the server answers with it what the model answers."""
    _optimized(place, record, "cuda" if place.on_gpu else "cpu")


def tensorrt(place: Place, record: Record) -> None:
    """The same with an engine, where TensorRT is installed."""
    if importlib.util.find_spec("tensorrt") is None:
        raise NotRun("TensorRT is not installed")
    _optimized(place, record, "tensorrt")


def _optimized(place: Place, record: Record, target: str) -> None:
    os.environ["FAKE_GPU_COMPUTES"] = "1"  # for the fake: candidates are judged by their values
    root = place.work / f"digits-artifact-{target}"
    files = {name: str(place.work / f"digits{name}") for name in (".safetensors", "-eval.npz", "-calibration.npz")}
    command = [
        *(sys.executable, "-m", "optimize", "examples.digits.model:build", "--weights", files[".safetensors"]),
        *("--eval", files["-eval.npz"], "--calibration", files["-calibration.npz"], "--output", str(root), "--force"),
        *("--target", target, "--budget", "60s"),
    ]
    begun = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110)
    record.figure("optimize", time.perf_counter() - begun, "s")
    record.check("optimize succeeds", done.returncode == 0, f"exit code {done.returncode}: {done.stderr[-400:]}")
    for number, line in enumerate(line for line in done.stdout.splitlines() if line.strip()):
        record.fact(f"optimize says {number + 1:02}", line.rstrip()[:170])
    if done.returncode:
        return
    manifest = json.loads((root / "manifest.json").read_text(encoding="utf-8"))
    record.fact("device of the artifact", manifest.get("device", "cpu"))
    kind = manifest.get("device", {}).get("kind", "cpu")
    record.check("the artifact is for this device", kind == target, kind)
    with np.load(files["-eval.npz"]) as rows:
        image, labels = rows["image"][:64], rows["labels"][:64]
    with serving(place, root) as server:
        reply = server.post(f"/v2/models/{manifest['name']}/infer", _request(image)).json()
    answers = np.array(reply["outputs"][0]["data"], np.float32).reshape(64, -1)
    right = float((answers.argmax(-1) == labels).mean())
    record.check("the server answers with it", right > 0.95, f"{right:.1%} of 64 digits are right")


def _request(image: Any) -> dict[str, Any]:
    data = image.ravel().tolist()
    return {"inputs": [{"name": "image", "shape": list(image.shape), "datatype": "FP32", "data": data}]}
