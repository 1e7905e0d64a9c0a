"""Pass: the graph in OpenVINO's format, with its precision recorded in the file.

Accepts float graphs and those with QuantizeLinear/DequantizeLinear pairs, but not dynamic int8.
"""

from __future__ import annotations

from ..sandbox import captured_output
from . import PassJob, PassRecord, failed

PRECISION = ["slipway", "precision"]
"""The runtime info key that the server's backend reads."""


def apply(job: PassJob) -> PassRecord:
    """``precision``: ``f32`` or ``bf16``. Raises PassFailed when OpenVINO cannot read the graph."""
    import openvino as ov

    target = job.workdir / "model.xml"
    precision = str(job.options["precision"])
    with captured_output.captured() as said:
        try:
            model = ov.Core().read_model(job.reference)
            model.set_rt_info(precision, PRECISION)
            ov.serialize(model, target)
        except RuntimeError as error:
            raise failed(error, "OpenVINO") from error
    return PassRecord(target, {"precision": precision, "openvino": str(ov.__version__)}, tuple(said))
