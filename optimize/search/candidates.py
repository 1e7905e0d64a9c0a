"""The candidates: a table of the variants worth trying on this hardware."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..pruning import Cut
from ..target import CPU

FLOAT32 = "float32"
"""Name of the reference among the candidates. It stays when no candidate is faster."""

Option = str | int | bool


@dataclass(frozen=True, slots=True)
class Candidate:
    """One row: the passes that make the candidate, in order, and their options. ``about`` is for the report.

    ``opt_in`` rows are tried only when the user names them. The others need ``package`` installed and a processor with
    one of ``flags``. ``after`` names the candidate that this one is made from; when that one loses, this is not tried.
    ``target``: cpu, cuda or tensorrt; rows of a GPU need one of compute capability ``least_sm`` or higher, 89 for 8.9.
    """

    name: str
    recipe: tuple[str, ...]
    about: str
    options: Mapping[str, Option] = field(default_factory=dict)
    opt_in: bool = False
    package: str = ""
    flags: tuple[str, ...] = ()
    after: str = ""
    target: str = CPU
    least_sm: int = 0


DYNAMIC, STATIC = "dynamic_int8_from_float32", "static_qdq_from_float32"
OPENVINO = "openvino_from_onnx"
PRUNED = "pruned_from_torch"
ROW_SCALES = "row_scales_from_dynamic"
FUSED, NBITS, HALF = "fused_from_float32", "nbits_from_float32", "half_from_float32"

CANDIDATES: tuple[Candidate, ...] = (
    Candidate("fused", (FUSED,), "float32 with attention, normalisation and activation functions as single nodes"),
    Candidate(
        "dynamic_int8",
        (DYNAMIC,),
        "matrix products in int8, ranges of activations computed in every run",
        {"per_channel": False},
    ),
    Candidate(
        "dynamic_int8_per_channel",
        (DYNAMIC,),
        "the same with one weight scale for each output channel",
        {"per_channel": True},
    ),
    Candidate(
        "dynamic_int8_per_row",
        (DYNAMIC, ROW_SCALES),
        "the same with one activation scale for each row or token, so that rows of a batch do not change each other",
        {"per_channel": True},
    ),
    Candidate(
        "fused_dynamic_int8", (FUSED, DYNAMIC), "fused nodes first, then matrix products in int8", {"per_channel": True}
    ),
    Candidate(
        "static_int8",
        (STATIC,),
        "convolutions and matrix products in int8, ranges from the extremes seen in calibration",
        {"calibrate": "minmax"},
    ),
    Candidate(
        "static_int8_percentile",
        (STATIC,),
        "the same with ranges that leave out the rarest extremes",
        {"calibrate": "percentile"},
    ),
    Candidate(
        "static_int8_entropy",
        (STATIC,),
        "the same with the ranges that lose the least information",
        {"calibrate": "entropy"},
    ),
    Candidate("weights_int8", (NBITS,), "weights in 8 bits by blocks, activations in float", {"bits": 8, "block": 32}),
    Candidate("weights_int4", (NBITS,), "weights in 4 bits by blocks, activations in float", {"bits": 4, "block": 32}),
    Candidate("openvino", (OPENVINO,), "float32 in OpenVINO's runtime", {"precision": "f32"}, package="openvino"),
    Candidate(
        "openvino_bf16",
        (OPENVINO,),
        "OpenVINO's runtime with products in bfloat16: nearly lossless",
        {"precision": "bf16"},
        package="openvino",
        flags=("avx512_bf16", "amx_bf16"),
    ),
    Candidate(
        "openvino_int8",
        (STATIC, OPENVINO),
        "the static int8 graph in OpenVINO's runtime",
        {"calibrate": "minmax", "precision": "f32"},
        package="openvino",
    ),
    Candidate(
        "float16",
        (HALF,),
        "half-precision floats, with float32 where values would not fit: for accelerators, no gain on a processor",
        {"to": "float16"},
        opt_in=True,
    ),
    Candidate(
        "static_int8_signed",
        (STATIC,),
        "signed activations: the quantizer's default, half the speed of float32 on x86",
        {"calibrate": "minmax", "activations": "int8"},
        opt_in=True,
    ),
)
"""Signed 8-bit activations and half precision are opt-in: on x86 both are slower than float32 for every model."""

PRUNED_VARIANTS: tuple[Candidate, ...] = (
    Candidate("dynamic_int8", (DYNAMIC,), "the same in int8", {"per_channel": True}),
    Candidate("static_int8", (STATIC,), "the same in calibrated int8", {"calibrate": "minmax"}),
    Candidate(
        "openvino_int8",
        (STATIC, OPENVINO),
        "the same in OpenVINO's runtime",
        {"calibrate": "minmax", "precision": "f32"},
        package="openvino",
    ),
)
"""Candidates made from a pruned network, besides the network itself."""


def pruned(cuts: Sequence[Cut], source: Mapping[str, Option]) -> tuple[Candidate, ...]:
    """Rows for each cut, in float32 and in int8. ``source``: the pass options that describe the torch source."""
    rows: list[Candidate] = []
    for cut in cuts:
        options: dict[str, Option] = {**source, "prune": cut.kind, "share": f"{cut.share:g}"}
        if cut.kind == "structured":
            about = f"a smaller network: {cut.share:.0%} of the channels of each layer that allows it taken out"
        else:
            about = f"{cut.share:.0%} of the weights set to zero: no faster here, smaller when compressed"
        about += ", then trained again" if source["train"] else ""
        rows.append(Candidate(cut.name, (PRUNED,), about, options))
        for row in PRUNED_VARIANTS:
            name, recipe = f"{cut.name}_{row.name}", (PRUNED, *row.recipe)
            rows.append(
                Candidate(name, recipe, row.about, {**options, **row.options}, package=row.package, after=cut.name)
            )
    return tuple(rows)
