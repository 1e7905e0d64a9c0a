"""The engine builder over a fake that refuses what the bindings of TensorRT 10, 11 and RTX refuse."""

from __future__ import annotations

from pathlib import Path

import pytest

from optimize.errors import PassFailed
from optimize.passes import engine, profiles
from optimize.passes.engine import BuildConfig, Built, PhaseShare
from tests.tensorrt import api, steps
from tests.tensorrt.fake import FakeTensorRT, tensorrt

PLAIN = BuildConfig()


def graph(tmp_path: Path, domain: str = "") -> Path:
    """float16[n, 16] -> float16[n, 16]."""
    path = tmp_path / "model.onnx"
    path.write_bytes(steps.model(domain))
    return path


def build(
    fake: FakeTensorRT,
    path: Path,
    config: BuildConfig = PLAIN,
    rows: tuple[int, ...] = (1, 8),
    cache: bytes = b"",
    heard: list[tuple[int, int]] | None = None,
) -> Built:
    said = heard if heard is not None else []
    return engine.build(
        fake.module,
        path,
        lambda shapes: profiles.of(shapes, rows),
        config,
        lambda done, total: said.append((done, total)),
        cache,
    )


@pytest.mark.parametrize("version", api.VERSIONS)
def test_one_path_builds_a_strongly_typed_engine_with_every_version(version: str, tmp_path: Path) -> None:
    fake, heard = tensorrt(version), list[tuple[int, int]]()
    built = build(fake, graph(tmp_path), BuildConfig(workspace_bytes=1 << 20), heard=heard)
    assert engine.layers_of(fake.module, built.plan) == [{"Name": "first"}, {"Name": "second"}]
    assert b'"typed": true' in built.plan
    assert built.layers == {"HALF": 2}
    assert len(fake.called("IBuilderConfig", "add_optimization_profile")) == 2
    assert [done for done, _ in heard] == [333, 667, 1000]


@pytest.mark.parametrize("version", api.VERSIONS)
def test_the_timing_cache_goes_in_and_comes_out(version: str, tmp_path: Path) -> None:
    fake = tensorrt(version)
    assert build(fake, graph(tmp_path)).timing_cache == b"timings"
    assert build(fake, graph(tmp_path), cache=b"of another build").timing_cache == b"of another build"


def test_an_operator_that_the_parser_lacks_is_named_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(PassFailed) as caught:
        build(tensorrt(), graph(tmp_path, "com.microsoft"))
    assert "FusedMatMul first: Plugin not found" in str(caught.value)
    assert "try --target cuda" in str(caught.value)


def test_a_profile_that_does_not_fit_is_refused_before_the_build(tmp_path: Path) -> None:
    shrinking = profiles.Shapes((8, 16), (4, 16), (2, 16))
    fake = tensorrt()
    with pytest.raises(PassFailed, match="the shapes of profile 0 do not fit the graph: x \\(8, 16\\) to \\(2, 16\\)"):
        engine.build(fake.module, graph(tmp_path), lambda _: [{"x": shrinking}], PLAIN, lambda *_: None)
    assert not fake.called("Builder", "build_serialized_network")


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("10: Internal Error (Could not find any implementation for node first.)", "needs more memory than is free"),
        ("1: Cuda Runtime (an illegal memory access was encountered)", "an illegal memory access"),
    ],
)
def test_a_build_without_a_result_says_why(reason: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(PassFailed, match=words):
        build(tensorrt(build_error=reason), graph(tmp_path))


def test_only_rtx_is_asked_for_another_compute_capability(tmp_path: Path) -> None:
    fake = tensorrt("rtx-1.7")
    build(fake, graph(tmp_path), BuildConfig(sm=86))
    assert len(fake.called("IBuilderConfig", "set_compute_capability")) == 1
    fake = tensorrt("rtx-1.7")
    build(fake, graph(tmp_path))
    assert not fake.called("IBuilderConfig", "set_compute_capability")


@pytest.mark.parametrize("version", api.VERSIONS)
def test_new_weights_of_the_same_graph_are_put_into_an_engine_that_was_built_for_it(
    version: str, tmp_path: Path
) -> None:
    fake, path = tensorrt(version), graph(tmp_path)
    fixed, open_ = (build(fake, path, BuildConfig(refittable=one)).plan for one in (False, True))
    assert engine.refit(fake.module, open_, path)
    with pytest.raises(PassFailed, match="was not built to take other weights"):
        engine.refit(fake.module, fixed, path)


def test_an_engine_of_another_gpu_does_not_load(tmp_path: Path) -> None:
    plan = build(tensorrt(sm=90), graph(tmp_path)).plan
    with pytest.raises(PassFailed, match="does not load here"):
        engine.layers_of(tensorrt(sm=89).module, plan)


def test_phases_inside_of_each_other_add_up_and_never_go_back() -> None:
    share, seen = PhaseShare(), []
    share.start("all", None, 2)
    share.start("tactics", "all", 4)
    for step in range(1, 5):
        share.step("tactics", step)
        seen.append(share.done)
    share.finish("tactics")
    share.step("all", 1)
    seen.append(share.done)
    share.start("tactics", "all", 1)
    share.step("tactics", 1)
    seen.append(share.done)
    share.step("unknown", 9)
    assert seen == [0.125, 0.25, 0.375, 0.5, 0.5, 1.0]
