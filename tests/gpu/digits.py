"""Stage: the digits model, trained here, in float32, TF32 and half precision on the device against the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from . import sessions
from .record import Record
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


def _model(work: Path) -> tuple[Path, Any, Any]:
    """The digits model, trained for a few epochs and exported; images and labels that it has not seen."""
    from examples.digits import train
    from optimize.sources.torch_module import export_module

    training, _, held_out = train.load(7)
    model = train.train(training, 8, 7, lambda *_: None).eval()
    path = work / "digits.onnx"
    export_module(model, {"image": held_out.image[:2]}, ("probabilities",), (), path)
    return path, held_out.image, held_out.labels


def _half(path: Path, images: Any, work: Path) -> Path:
    """The float16 graph of the project's own pass."""
    import onnx_ir

    from optimize.evaluation.dataset import Dataset
    from optimize.passes.half_from_float32 import convert
    from optimize.passes.ranges import observe

    target = work / "digits-float16.onnx"
    model = onnx_ir.load(path)
    convert(model, "float16", observe(path, Dataset({"image": np.asarray(images)[:64]}, None, "")))
    onnx_ir.save(model, target)
    return target
