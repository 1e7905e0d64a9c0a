"""The target of a search: what each host gets, and what is said about what it lacks."""

from __future__ import annotations

from dataclasses import replace

import pytest

from optimize import target
from optimize.errors import BadInput, NoTarget
from optimize.hardware import Gpu
from optimize.search.gpu_candidates import GPU_CANDIDATES
from optimize.search.selection import completed, select
from optimize.target import CUDA, PROVIDER, RTX, TENSORRT, Asked, Host, Target, resolve

HOPPER = Gpu("NVIDIA H100", "GPU-1", 90, "580.95.05", 80 << 30)
TURING = replace(HOPPER, name="Tesla T4", sm=75)
PROVIDERS = (PROVIDER, "CPUExecutionProvider")
WITH_CUDA = Host((HOPPER,), PROVIDERS, missing="No module named 'tensorrt'")
WITH_TENSORRT = replace(WITH_CUDA, engines=((TENSORRT, "tensorrt"),))
WITH_RTX = replace(WITH_CUDA, engines=((RTX, "tensorrt_rtx_bindings"),))
BARE = Host()


@pytest.mark.parametrize(
    ("asked", "host", "kinds", "engine"),
    [
        ("auto", BARE, {"cpu"}, ""),
        ("cpu", WITH_TENSORRT, {"cpu"}, ""),
        ("auto", WITH_CUDA, {CUDA}, ""),
        ("cuda", WITH_TENSORRT, {CUDA}, ""),
        ("auto", WITH_TENSORRT, {CUDA, TENSORRT}, TENSORRT),
        ("tensorrt", replace(WITH_RTX, gpus=(TURING,)), {CUDA, TENSORRT}, RTX),
        ("auto", WITH_RTX, {CUDA}, ""),
        ("auto", replace(WITH_TENSORRT, providers=()), {"cpu"}, ""),
    ],
)
def test_a_target_is_what_was_asked_for_or_the_most_that_the_host_has(
    asked: Asked, host: Host, kinds: set[str], engine: str
) -> None:
    found = resolve(asked, host)
    assert (set(found.kinds), found.engine) == (kinds, engine)
    assert (found.gpu is None) == (kinds == {"cpu"})


@pytest.mark.parametrize(
    ("asked", "host", "words"),
    [
        ("cuda", BARE, ["no NVIDIA GPU is visible", "--gpus all", "pip install 'onnxruntime-gpu"]),
        ("cuda", replace(WITH_CUDA, providers=()), [f"no {PROVIDER}", "pip uninstall onnxruntime"]),
        ("tensorrt", WITH_CUDA, ["No module named 'tensorrt'", "pip install tensorrt-cu13"]),
        ("tensorrt", WITH_RTX, ["tensorrt_rtx_bindings does not know SM 9.0"]),
    ],
)
def test_everything_that_is_missing_is_named_with_its_remedy(asked: Asked, host: Host, words: list[str]) -> None:
    with pytest.raises(NoTarget, match=f"--target {asked}") as caught:
        resolve(asked, host)
    assert all(word in str(caught.value) for word in words)
    assert caught.value.exit_code == 3


def test_libraries_for_engines_are_looked_for_only_beside_a_gpu() -> None:
    asked: list[str] = []

    def load(name: str) -> object:
        asked.append(name)
        if name == "tensorrt":
            raise OSError("libnvinfer.so.10: cannot open shared object file")
        return object()

    assert target.look((), load).engines == ()
    assert asked == []
    host = target.look([HOPPER], load)
    assert host.engines == ((RTX, "tensorrt_rtx"),)
    assert "libnvinfer.so.10" in host.missing


ALL = Target(frozenset({CUDA, TENSORRT}), HOPPER, TENSORRT, "tensorrt")


def test_rows_are_for_their_target_and_for_gpus_that_have_the_format() -> None:
    assert {row.target for row in select((), (), target=Target())} == {"cpu"}
    usual = {row.name for row in GPU_CANDIDATES if not row.opt_in}
    assert {row.name for row in select((), (), target=ALL)} == usual
    turing = {row.name for row in select((), (), target=replace(ALL, gpu=TURING))}
    assert "tensorrt_int8" in turing
    assert not turing & {"cuda_tf32", "cuda_bfloat16", "tensorrt_bfloat16", "tensorrt_fp8"}
    with pytest.raises(BadInput, match=r"tensorrt_fp8 is for --target tensorrt with SM 8.9 or later"):
        select(("tensorrt_fp8",), (), target=replace(ALL, gpu=TURING))
    with pytest.raises(BadInput, match="fused is for --target cpu"):
        select(("fused",), (), target=ALL)


def test_what_only_the_search_knows_reaches_the_passes_that_read_it() -> None:
    given = {"rows": "1,8", "engine": TENSORRT, "module": "tensorrt"}
    rows = {row.name: row.options for row in completed(select((), (), target=ALL), given)}
    assert rows["tensorrt_fp8"] == {"calibrate": "minmax", "to": "float16", **given}
    assert rows["cuda_tf32"] == {"tf32": True, "rows": "1,8"}
    assert not any("rows" in row.options for row in completed(select((), ()), given))
