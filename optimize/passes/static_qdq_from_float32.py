"""Pass: convolutions and matrix products in int8, ranges from calibration, as QuantizeLinear/DequantizeLinear pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ..errors import PassFailed
from ..sandbox import captured_output
from . import PassJob, PassRecord, contains, failed, nodes_that_make
from .calibration import Feed, method_of
from .prepared import prepare
from .ranges import observe

COMPUTE = frozenset({"Conv", "ConvTranspose", "MatMul", "Gemm"})
"""Operators with fast int8 kernels."""

CARRY = frozenset(
    {"Add", "AveragePool", "Clip", "Concat", "Flatten", "GlobalAveragePool", "MaxPool", "Relu", "Reshape", "Squeeze"}
    | {"Transpose", "Unsqueeze"}
)
"""Operators that int8 values pass between two of those without becoming floats. Softmax is absent, because
rounding its output to 256 levels gains nothing."""

MIXERS = frozenset({"Concat"})
"""Operators in CARRY whose inputs may have different ranges."""

MIXED = 4.0
"""Ratio of the ranges of two inputs from which on a mixer stays in float."""

FALLBACKS: tuple[dict[str, str | int | bool], ...] = (
    {},
    {"per_channel": False},
    {"per_channel": False, "quantize_bias": False},
)
"""Changes of options for the attempts to quantize, in this order."""

OPTIONS = {"MatMulConstBOnly": True}
"""Products of two activations (attention scores) stay in float: measured, rounding costs more than int8 gains."""


def apply(job: PassJob) -> PassRecord:
    """Quantize with unsigned activations and signed weights, one weight scale per channel: the fast pair on x86. On Arm
    both are signed. Weights get 7 bits on processors whose int8 products saturate.

    Raises PassFailed when the quantizer does, or when there is nothing in the graph to quantize.
    """
    if not contains(job.reference, COMPUTE):
        raise PassFailed("nothing to quantize: the graph has no convolution and no matrix product")
    target = job.workdir / "model.onnx"
    feed = Feed(job.calibration, job.seed)
    applied: dict[str, str | int | bool] = {
        "calibrate": str(job.options["calibrate"]),
        "calibration_rows": feed.rows,
        "activations": str(job.options.get("activations") or _activations(job)),
        "per_channel": bool(job.options.get("per_channel", True)),
        "reduce_range": not job.hardware.has_int8_dot,
    }
    with captured_output.captured() as said:
        try:
            prepared, applied["symbolic_shape_inference"] = prepare(job.reference)
            mixers = _range_mixers(prepared, job)
            excluded = _excluded(prepared, (*job.keep_float, *mixers))
            applied |= _quantize_with_fallbacks(prepared, target, feed, applied, excluded)
        except PassFailed:
            raise
        except Exception as error:
            raise failed(error) from error
    if mixers:
        applied["range_mixers_in_float"] = ", ".join(mixers)
    return PassRecord(target, applied, tuple(said), float_graph=prepared)


def _range_mixers(prepared: Path, job: PassJob) -> list[str]:
    """The outputs of nodes that join tensors of different ranges, such as boxes and scores.

    Their output has one scale, in which the values of the smaller range vanish.
    """
    import onnx

    model = onnx.load(prepared, load_external_data=False)
    joining = [node for node in model.graph.node if node.op_type in MIXERS]
    if not joining:
        return []
    ranges = observe(prepared, job.calibration)
    largest = {name: seen.largest for name, seen in ranges.items() if seen.is_float32}
    largest |= {
        name: float(np.abs(array).max(initial=0.0))
        for name, array in job.calibration.inputs.items()
        if array.dtype.kind == "f"
    }
    found = []
    for node in joining:
        seen = [largest[name] for name in node.input if largest.get(name, 0.0) > 0]
        if len(seen) > 1 and max(seen) >= MIXED * min(seen):
            found.append(node.output[0])
    return found


def _quantize_with_fallbacks(
    prepared: Path, target: Path, feed: Feed, applied: Mapping[str, str | int | bool], excluded: Sequence[str]
) -> dict[str, str | int | bool]:
    """Quantize, and on an error of the quantizer try again in simpler ways. Returns the options that then applied.

    Raises the error of the first attempt when all fail.
    """
    first: Exception | None = None
    for changes in FALLBACKS:
        try:
            feed.rewind()
            _quantize(prepared, target, feed, {**applied, **changes}, excluded)
        except Exception as error:  # noqa: BLE001 - the quantizer raises anything; simpler ways often work
            first = first or error
            target.with_name(f"ranges-{applied['calibrate']}.json").unlink(missing_ok=True)
            continue
        if first is not None:
            lines = str(first).strip().splitlines() or ["no reason given"]
            return {**changes, "simpler_because": f"{type(first).__name__}: {lines[0]}"}
        return {}
    raise first or RuntimeError("there was no attempt")


def _excluded(prepared: Path, keep_float: Sequence[str]) -> list[str]:
    """The kept layers and the carrying nodes before them, whose int8 outputs would round the layers' inputs."""
    import onnx

    kept = set(nodes_that_make(prepared, keep_float))
    nodes = list(onnx.load(prepared, load_external_data=False).graph.node)
    wanted = {name for node in nodes if node.name in kept for name in node.input}
    for node in reversed(nodes):
        if node.op_type in CARRY and wanted & set(node.output):
            kept.add(node.name)
            wanted.update(node.input)
    return sorted(kept)


def _activations(job: PassJob) -> str:
    """The type with a fast instruction: x86 multiplies unsigned by signed, Arm signed by signed."""
    return "int8" if job.hardware.architecture in ("aarch64", "arm64") else "uint8"


def _quantize(
    prepared: Path, target: Path, feed: Feed, applied: Mapping[str, str | int | bool], keep_float: Sequence[str]
) -> None:
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    quantize_static(
        prepared,
        target,
        feed,
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=sorted(COMPUTE | CARRY),
        per_channel=applied["per_channel"],
        reduce_range=applied["reduce_range"],
        activation_type=QuantType.QInt8 if applied["activations"] == "int8" else QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=method_of(str(applied["calibrate"])),
        nodes_to_exclude=list(keep_float),
        extra_options={**OPTIONS, "QuantizeBias": bool(applied.get("quantize_bias", True))},
        # Ranges do not depend on the layers in float, so that repair calibrates once for all that it builds.
        calibration_cache_path=target.with_name(f"ranges-{applied['calibrate']}.json"),
    )
