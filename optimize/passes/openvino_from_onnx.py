"""Pass: the graph in OpenVINO's own format, with the precision that it is to be computed in written into it.

Takes float graphs and those with QuantizeLinear/DequantizeLinear pairs; dynamic int8 is not portable to it.
"""

from __future__ import annotations

from ..sandbox.captured_output import captured
from . import PassJob, PassRecord, failed

PRECISION = ["slipway", "precision"]
"""Where the server's backend looks for it."""


def apply(job: PassJob) -> PassRecord:
    """``precision``: ``f32`` or ``bf16``. Raises PassFailed when OpenVINO cannot read the graph."""
    import openvino as ov

    target = job.workdir / "model.xml"
    precision = str(job.options["precision"])
    with captured() as said:
        try:
            model = ov.Core().read_model(job.reference)
            model.set_rt_info(precision, PRECISION)
            ov.serialize(model, target)
        except RuntimeError as error:
            raise failed(error, "OpenVINO") from error
    return PassRecord(target, {"precision": precision, "openvino": str(ov.__version__)}, tuple(said))
