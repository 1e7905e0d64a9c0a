"""Pass: convolutions and matrix products in int8, ranges from calibration, as QuantizeLinear/DequantizeLinear pairs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from .. import quiet
from ..calibration import Feed
from ..errors import PassFailed
from . import PassJob, PassRecord, contains, failed

COMPUTE = frozenset({"Conv", "ConvTranspose", "MatMul", "Gemm"})
"""What int8 is for."""

CARRY = frozenset(
    {"Add", "AveragePool", "Clip", "Concat", "Flatten", "GlobalAveragePool", "MaxPool", "Relu", "Reshape", "Squeeze"}
    | {"Transpose", "Unsqueeze"}
)
"""What int8 values pass through between two of those, so that they need not become floats on the way. Softmax and the
like are absent: their outputs would be rounded to 256 levels for nothing."""


def apply(job: PassJob) -> PassRecord:
    """Activations unsigned, weights signed with a scale per channel: the pair with a fast kernel on x86. On Arm both
    are signed. Weights get 7 bits where the processor would saturate.

    Raises PassFailed when the quantizer does, or when there is nothing in the graph to quantize.
    """
    if not contains(job.reference, COMPUTE):
        raise PassFailed("nothing to quantize: the graph has no convolution and no matrix product")
    target = job.workdir / "model.onnx"
    prepared = job.workdir / "prepared.onnx"
    feed = Feed(job.calibration, job.seed)
    applied: dict[str, str | int | bool] = {
        "calibrate": str(job.options["calibrate"]),
        "calibration_rows": feed.rows,
        "activations": "int8" if job.hardware.architecture in ("aarch64", "arm64") else "uint8",
        "per_channel": True,
        "reduce_range": not job.hardware.has_int8_dot,
    }
    with quiet.captured() as said:
        try:
            applied["symbolic_shape_inference"] = _prepare(job.reference, prepared)
            _quantize(prepared, target, feed, applied)
        except Exception as error:
            raise failed(error) from error
        finally:
            prepared.unlink(missing_ok=True)
    return PassRecord(target, applied, tuple(said))


def _quantize(prepared: Path, target: Path, feed: Feed, applied: Mapping[str, str | int | bool]) -> None:
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    methods = {"minmax": CalibrationMethod.MinMax, "percentile": CalibrationMethod.Percentile}
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
    )


def _prepare(reference: Path, prepared: Path) -> bool:
    """Fold constants and infer shapes, which the quantizer wants; without the symbolic part where that gives up.

    Returns whether the symbolic part was used.
    """
    from onnxruntime.quantization.shape_inference import quant_pre_process

    try:
        quant_pre_process(reference, prepared)
    except Exception:  # noqa: BLE001 - the symbolic inference raises plain Exception on shapes that it cannot follow
        quant_pre_process(reference, prepared, skip_symbolic_shape=True)
        return False
    return True
