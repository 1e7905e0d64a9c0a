"""Pass: convolutions and matrix products in int8, ranges from calibration, as QuantizeLinear/DequantizeLinear pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..errors import PassFailed
from ..sandbox.captured_output import captured
from . import PassJob, PassRecord, contains, failed, nodes_that_make
from .calibration import Feed
from .prepared import prepare

COMPUTE = frozenset({"Conv", "ConvTranspose", "MatMul", "Gemm"})
"""What int8 is for."""

CARRY = frozenset(
    {"Add", "AveragePool", "Clip", "Concat", "Flatten", "GlobalAveragePool", "MaxPool", "Relu", "Reshape", "Squeeze"}
    | {"Transpose", "Unsqueeze"}
)
"""What int8 values pass through between two of those, so that they need not become floats on the way. Softmax and the
like are absent: their outputs would be rounded to 256 levels for nothing."""

OPTIONS = {"MatMulConstBOnly": True}
"""Products of two activations (attention scores) stay in float: measured, they lose more in rounding than they gain."""


def apply(job: PassJob) -> PassRecord:
    """Activations unsigned, weights signed with a scale per channel: the pair with a fast kernel on x86. On Arm both
    are signed. Weights get 7 bits where the processor would saturate.

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
    with captured() as said:
        try:
            prepared, applied["symbolic_shape_inference"] = prepare(job.reference)
            _quantize(prepared, target, feed, applied, _left_out(prepared, job.keep_float))
        except PassFailed:
            raise
        except Exception as error:
            raise failed(error) from error
    return PassRecord(target, applied, tuple(said), float_graph=prepared)


def _left_out(prepared: Path, keep_float: Sequence[str]) -> list[str]:
    """The kept layers, and what carries values to them: an input that an addition has rounded already is no float."""
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
    """Unsigned activations are what x86 has an instruction for; Arm's multiplies signed by signed."""
    return "int8" if job.hardware.architecture in ("aarch64", "arm64") else "uint8"


def _quantize(
    prepared: Path, target: Path, feed: Feed, applied: Mapping[str, str | int | bool], keep_float: Sequence[str]
) -> None:
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    methods = {
        "minmax": CalibrationMethod.MinMax,
        "percentile": CalibrationMethod.Percentile,
        "entropy": CalibrationMethod.Entropy,
    }
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
        calibrate_method=methods[str(applied["calibrate"])],
        nodes_to_exclude=list(keep_float),
        extra_options=dict(OPTIONS),
        # Ranges do not depend on which layers stay in float: repair, which builds many, calibrates once.
        calibration_cache_path=target.with_name(f"ranges-{applied['calibrate']}.json"),
    )
