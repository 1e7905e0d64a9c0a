"""The candidates of GPUs: number formats for ONNX Runtime's CUDA provider, and for engines of TensorRT."""

from __future__ import annotations

from collections.abc import Mapping

from ..target import CUDA, TENSORRT
from .candidates import FUSED, HALF, Candidate, Option

SYMMETRIC, FP8, ON_CUDA, ENGINE = (
    "symmetric_qdq_from_float32", "fp8_from_symmetric", "cuda_from_onnx", "engine_from_onnx",
)  # fmt: skip

GPU_CANDIDATES: tuple[Candidate, ...] = (
    Candidate(
        "cuda_tf32",
        (ON_CUDA,),
        "float32 with products in TF32: 10 bits of mantissa, float32's range",
        {"tf32": True},
        target=CUDA,
        least_sm=80,
    ),
    Candidate(
        "cuda_float16",
        (HALF, ON_CUDA),
        "half-precision floats, with float32 where values would not fit",
        {"to": "float16", "tf32": False},
        target=CUDA,
        least_sm=70,
    ),
    Candidate(
        "cuda_bfloat16",
        (HALF, ON_CUDA),
        "bfloat16: float32's range, 8 bits of mantissa",
        {"to": "bfloat16", "tf32": False},
        target=CUDA,
        least_sm=80,
    ),
    Candidate(
        "cuda_fused_float16",
        (FUSED, HALF, ON_CUDA),
        "attention and normalisation as single nodes, in half precision",
        {"to": "float16", "tf32": False},
        target=CUDA,
        least_sm=70,
    ),
    Candidate(
        "tensorrt_float16",
        (HALF, ENGINE),
        "an engine of the half-precision graph",
        {"to": "float16"},
        target=TENSORRT,
        least_sm=75,
    ),
    Candidate(
        "tensorrt_float16_refittable",
        (HALF, ENGINE),
        "the same in an engine that takes new weights of the same network (rebuild --graph), often slower",
        {"to": "float16", "refittable": True},
        opt_in=True,
        target=TENSORRT,
        least_sm=75,
    ),
    Candidate(
        "tensorrt_bfloat16",
        (HALF, ENGINE),
        "an engine of the bfloat16 graph",
        {"to": "bfloat16"},
        target=TENSORRT,
        least_sm=80,
    ),
    Candidate(
        "tensorrt_int8",
        (SYMMETRIC, HALF, ENGINE),
        "an engine in symmetric int8 on half precision, ranges from the extremes seen in calibration",
        {"calibrate": "minmax", "to": "float16"},
        target=TENSORRT,
        least_sm=75,
    ),
    Candidate(
        "tensorrt_int8_entropy",
        (SYMMETRIC, HALF, ENGINE),
        "the same with the ranges that lose the least information",
        {"calibrate": "entropy", "to": "float16"},
        target=TENSORRT,
        least_sm=75,
    ),
    Candidate(
        "tensorrt_fp8",
        (SYMMETRIC, HALF, FP8, ENGINE),
        "an engine in FP8 on half precision",
        {"calibrate": "minmax", "to": "float16"},
        target=TENSORRT,
        least_sm=89,
    ),
)
"""Int8 and FP8 stand on half precision, because a strongly typed engine would compute the rest in float32."""


def compiled(source: Mapping[str, Option]) -> Candidate:
    """The row for a torch source. ``source``: the pass options that describe it."""
    return Candidate(
        "inductor_float16",
        ("aoti_from_torch",),
        "the module compiled ahead of time by torch, in half precision",
        source,
        target=CUDA,
        least_sm=70,
    )
