"""The doctor's single checks, on hosts made of files."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from server.artifact import Artifact, Manifest
from server.doctor import device, disk, given, host
from server.doctor.findings import Finding, Level, as_json, as_text, ok, stop, verdict, warn
from server.settings.options import Settings
from server.system.gpu import Gpu, Gpus
from server.target import BucketBytes, ClosedShapes, DeviceTarget
from server.tensors import ModelSpec
from tests.integration import sample_models

MB = 1_000_000
V2 = "sys/fs/cgroup/memory.max"
V1 = "sys/fs/cgroup/memory/memory.limit_in_bytes"


def lay_out(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="ascii")
    return root


def test_the_last_line_is_the_first_fatal_cause() -> None:
    findings = [ok("a", "fine"), warn("b", "odd", "look"), stop("c", "broken", "mend it"), stop("d", "worse")]
    assert as_text(findings).splitlines() == [
        "ok    a         fine",
        "warn  b         odd; look",
        "FATAL c         broken; mend it",
        "FATAL d         worse",
        "cannot serve: broken; mend it",
    ]
    assert verdict(findings)[0] == 1
    told = json.loads(as_json(findings))
    assert told["ok"] is False
    assert told["fatal"] == "broken; mend it"
    assert [one["level"] for one in told["checks"]] == ["ok", "warn", "fatal", "fatal"]


def test_warnings_do_not_fail() -> None:
    findings = [ok("a", "fine"), warn("b", "odd", "look")]
    assert verdict(findings) == (0, "can serve: 1 checks passed, 1 warnings")
    assert json.loads(as_json(findings))["fatal"] is None


def lines(findings: list[Finding]) -> list[str]:
    return [f"{one.level.value} {one.text}" for one in findings]


def test_every_wrong_setting_is_named_and_the_right_ones_are_kept(tmp_path: Path) -> None:
    environ = {"SLIPWAY_PROT": "1", "SLIPWAY_THREADS": "many", "SLIPWAY_INSTANCES": "2", "PATH": "/bin"}
    settings, findings = given.examine(["--prot", "3"], environ, tmp_path)
    fatal = [line for line in lines(findings) if line.startswith("FATAL")]
    assert len(fatal) == 3
    assert "unknown option --prot; the nearest is --port" in fatal[0]
    assert "SLIPWAY_PROT" in fatal[1]
    assert "SLIPWAY_THREADS must be a whole number" in fatal[2]
    assert settings.instances == 2


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"SAGEMAKER_MODEL_SERVER_WORKER": "2"}, "warn SAGEMAKER_MODEL_SERVER_WORKER is not a known variable"),
        (
            {"SLIPWAY_PORT": "1", "SAGEMAKER_BIND_TO_PORT": "2"},
            "warn SLIPWAY_PORT=1 wins over SAGEMAKER_BIND_TO_PORT=2",
        ),
        ({"SLIPWAY_DRAIN_GRACE_S": "15"}, "warn stopping may take 35 s, SageMaker kills the process after 30 s"),
        (
            {"SLIPWAY_DEADLINE_MS": "1", "SLIPWAY_MAX_QUEUE_DELAY_US": "1000"},
            "warn a batch may wait 1000 us for more rows, but requests expire after 1 ms",
        ),
        ({"SAGEMAKER_REGION": "nowhere", "SAGEMAKER_ANYTHING_ELSE": "1"}, "ok all have their defaults"),
        ({"SLIPWAY_PORT": "81"}, "ok port=81"),
    ],
)
def test_settings_that_contradict_or_miss_are_told(environ: dict[str, str], said: str, tmp_path: Path) -> None:
    assert lines(given.examine([], environ, tmp_path)[1]) == [said]


def test_an_address_that_nobody_reaches_is_told_in_a_container_only(tmp_path: Path) -> None:
    (tmp_path / ".dockerenv").touch()
    assert "inside a container" in given.examine([], {}, tmp_path)[1][0].text
    assert given.examine([], {"SLIPWAY_HOST": "0.0.0.0"}, tmp_path)[1][0].level is Level.OK


@pytest.mark.parametrize("file", [V1, V2])
@pytest.mark.parametrize(
    ("weight_mb", "limit_mb", "level"),
    [(1, 512, Level.OK), (100, 250, Level.WARN), (100, 200, Level.FATAL), (0, 80, Level.FATAL)],
)
def test_memory_is_held_against_the_limit_of_either_version(
    file: str, weight_mb: int, limit_mb: int, level: Level, tmp_path: Path
) -> None:
    found = host.memory(weight_mb * MB, lay_out(tmp_path, {file: f"{limit_mb * MB}\n"}))
    assert found.level is level
    assert f"limit {limit_mb} MB" in found.text


def test_memory_that_others_have_taken_counts(tmp_path: Path) -> None:
    root = lay_out(tmp_path, {V2: f"{8000 * MB}\n", "proc/meminfo": "MemTotal: 9000 kB\nMemAvailable:   100000 kB\n"})
    found = host.memory(50 * MB, root)
    assert found.level is Level.FATAL
    assert "102 MB free, limit 8000 MB" in found.text


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 8),
        ({"sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2),
        (
            {
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "300000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            3,
        ),
    ],
)
def test_threads_are_held_against_quota_and_affinity(
    files: dict[str, str], cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    root = lay_out(tmp_path, files)
    fits = host.processors(Settings(), None, root)
    assert fits.level is Level.OK
    assert f"1 instances x {cores} threads" in fits.text
    assert host.processors(Settings(instances=2, threads=cores), None, root).level is Level.WARN
    assert host.processors(Settings(), (1, 1), root).text.startswith("1 instances x 1 threads")


CUDA, TENSORRT = "CUDAExecutionProvider", "TensorrtExecutionProvider"
L4 = Gpu(0, "NVIDIA L4", "GPU-1", 89, 24_000_000_000, 1_000_000_000, False, True, 0, 0.0)
ONE = Gpus((L4,), "580.95.05", 13000)
ENGINE = Manifest(
    "engine",
    "1",
    "tensorrt",
    "model.plan",
    ModelSpec((), ()),
    device=DeviceTarget("tensorrt", 89, 89, 580, bytes=9_000_000_000),
    shapes=ClosedShapes((1,), (), (BucketBytes(1, 0, 1_000_000_000),)),
)


@pytest.mark.parametrize(
    ("wanted", "host", "environ", "built_with", "level", "said"),
    [
        ("cpu", Gpus(), {}, [], Level.OK, "not needed"),
        ("auto", Gpus(), {}, [], Level.OK, "not needed"),
        ("cpu", replace(ONE, devices=(L4, L4)), {}, [], Level.WARN, "2 visible but not used"),
        ("cuda", Gpus(driver="580.1"), {}, [], Level.FATAL, "no GPU is visible"),
        ("cuda", ONE, {"CUDA_VISIBLE_DEVICES": "-1"}, [], Level.FATAL, "hides every GPU"),
        ("cuda", Gpus(absent="the NVIDIA driver is not visible"), {}, [], Level.FATAL, "driver is not visible"),
        ("cuda", ONE, {}, ["CPUExecutionProvider"], Level.FATAL, "has no CUDAExecutionProvider"),
        ("tensorrt", ONE, {}, [CUDA], Level.FATAL, "has no TensorrtExecutionProvider"),
        ("cuda", ONE, {}, [CUDA], Level.OK, "NVIDIA L4 (SM 89) with CUDAExecutionProvider"),
        ("cuda", replace(ONE, driver="550.1"), {}, [CUDA], Level.FATAL, "CUDA 13 needs a driver of 580 or newer"),
        ("cuda", Gpus((replace(L4, sm=100),), "580.1"), {}, [CUDA], Level.FATAL, "no kernels for NVIDIA L4 (SM 100)"),
        ("cuda", Gpus((replace(L4, sm=87),), "580.1"), {}, [CUDA], Level.OK, "SM 87"),
        ("cuda", Gpus((replace(L4, mig=True),), "580.1"), {}, [CUDA], Level.WARN, "is divided (MIG)"),
        ("cuda", Gpus((replace(L4, ecc_errors=3),), "580.1"), {}, [CUDA], Level.WARN, "3 uncorrected memory errors"),
        ("cuda", ONE, {}, [CUDA], Level.OK, "23000 MB of 24000 MB are free"),
    ],
)
def test_a_gpu_is_looked_for_where_one_is_wanted(
    wanted: str, host: Gpus, environ: dict[str, str], built_with: list[str], level: Level, said: str
) -> None:
    found = device.examine(Settings(device=wanted), environ, (), lambda: host, lambda: built_with, lambda: 13)
    (one,) = [one for one in found if said in one.text]
    assert one.level is level
    assert level is Level.FATAL or not any(one.level is Level.FATAL for one in found)


@pytest.mark.parametrize(
    ("host", "said"),
    [
        (ONE, ""),
        (Gpus((replace(L4, sm=90),), "580.1"), "was built for GPUs of SM 89, and this one has SM 90"),
        (Gpus((replace(L4, used_bytes=15_000_000_000),), "580.1"), "needs 10.00 GB of device memory, and 9.00 GB"),
    ],
)
def test_a_model_is_compared_with_the_gpu_before_it_is_loaded(host: Gpus, said: str, tmp_path: Path) -> None:
    models = [Artifact(tmp_path, ENGINE)]
    found = device.examine(Settings(), {}, models, lambda: host, list, lambda: 13)
    fatal = [one.text for one in found if one.level is Level.FATAL]
    assert bool(fatal) == bool(said)
    assert all(said in one for one in fatal)


@pytest.mark.parametrize(
    ("environ", "gpus", "said"),
    [
        ({}, 1, "NVIDIA L4 (SM 89)"),
        ({"CUDA_VISIBLE_DEVICES": "1"}, 1, "no kernels for B200 (SM 100)"),
        ({}, 0, "no kernels for B200 (SM 100)"),
        ({"CUDA_VISIBLE_DEVICES": "0"}, 2, "1 visible, fewer than --gpus 2"),
        ({"CUDA_VISIBLE_DEVICES": "GPU-9"}, 1, "0 visible, fewer than --gpus 1"),
    ],
)
def test_the_gpus_that_the_server_would_use_are_examined(environ: dict[str, str], gpus: int, said: str) -> None:
    host = replace(ONE, devices=(L4, replace(L4, index=1, name="B200", uuid="GPU-2", sm=100)))
    settings = Settings(device="cuda", gpus=gpus)
    found = device.examine(settings, environ, (), lambda: host, lambda: [CUDA], lambda: 13)
    assert any(said in one.text for one in found)
    assert any(one.level is Level.FATAL for one in found) is ("L4" not in said)


@pytest.mark.parametrize(
    ("cuda", "sm", "runs"), [(13, 100, False), (12, 100, True), (12, 120, True), (12, 89, True), (12, 70, False)]
)
def test_the_kernels_are_those_of_the_image(cuda: int, sm: int, runs: bool) -> None:
    host = Gpus((replace(L4, sm=sm),), "580.1")
    found = device.examine(Settings(device="cuda"), {}, (), lambda: host, lambda: [CUDA], lambda: cuda)
    assert any("no kernels for" in one.text for one in found) is not runs


@pytest.mark.parametrize(
    ("processes", "devices", "said"), [(3, (L4,), "needs 30.00 GB"), (3, (L4, L4, L4), ""), (2, (L4,), "")]
)
def test_processes_that_share_a_gpu_have_the_model_once_each(
    processes: int, devices: tuple[Gpu, ...], said: str, tmp_path: Path
) -> None:
    settings, host = Settings(processes=processes, gpus=0), Gpus(devices, "580.1")
    found = device.examine(settings, {}, [Artifact(tmp_path, ENGINE)], lambda: host, list, lambda: 13)
    fatal = [one.text for one in found if one.level is Level.FATAL]
    assert [said in one for one in fatal] == ([True] if said else [])


def test_an_old_driver_is_told_the_image_and_the_host_image_that_help() -> None:
    host = replace(ONE, driver="535.183.01")
    found = device.examine(Settings(device="cuda"), {}, (), lambda: host, lambda: [CUDA], lambda: 13)
    assert "image for CUDA 12" in found[0].advice
    assert "InferenceAmiVersion al2023-ami-sagemaker-inference-gpu-4-1" in found[0].advice


@pytest.fixture
def taken() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)
        yield listener


def test_a_free_port_is_fine_and_one_of_another_program_is_not(
    taken: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "PING_S", 0.05)
    number = taken.getsockname()[1]
    taken.close()
    assert [one.level for one in host.port(Settings(port=number), {})] == [Level.OK]
    with socket.create_server(("127.0.0.1", number)) as other:
        other.listen(0)
        found = list(host.port(Settings(port=number), {}))
    # It accepts and never answers: /ping runs into its time limit.
    assert [one.level for one in found] == [Level.FATAL]
    assert f"cannot listen on 127.0.0.1:{number}" in found[0].text


@pytest.mark.parametrize(
    ("environ", "levels"),
    [
        ({"SAGEMAKER_SAFE_PORT_RANGE": "1-2"}, [Level.FATAL, Level.OK]),
        ({"SAGEMAKER_SAFE_PORT_RANGE": "0-9"}, [Level.OK]),
        ({"SAGEMAKER_SAFE_PORT_RANGE": "1-2", "SAGEMAKER_BIND_TO_PORT": "0"}, [Level.OK]),
        ({"SAGEMAKER_SAFE_PORT_RANGE": "eight"}, [Level.WARN, Level.OK]),
    ],
)
def test_the_port_has_to_be_in_the_range_of_the_platform(environ: dict[str, str], levels: list[Level]) -> None:
    assert [one.level for one in host.port(Settings(port=0), environ)] == levels


def test_a_model_on_disk_is_described_with_what_it_will_need(tmp_path: Path) -> None:
    root = sample_models.fake(tmp_path / "model", name="one")
    found, findings = disk.examine(Settings(model=str(root)))
    assert [one.level for one in findings] == [Level.OK]
    assert findings[0].text.startswith("one version 1 at ")
    assert found.bytes > 0
    assert found.batching == (1, 1)


def test_only_the_versions_that_will_be_loaded_count(tmp_path: Path) -> None:
    for version in ("1", "2"):
        sample_models.fake(tmp_path / "name" / version)
    assert len(disk.examine(Settings(model=str(tmp_path)))[0].artifacts) == 1
    assert len(disk.examine(Settings(model=str(tmp_path), keep_versions=0))[0].artifacts) == 2


def test_what_is_wrong_with_a_model_is_told_in_the_words_of_the_server(tmp_path: Path) -> None:
    missing = disk.examine(Settings(model=str(tmp_path / "none")))[1]
    assert lines(missing) == [f"FATAL there is no model at {tmp_path / 'none'}: pass --model DIR, or mount one there"]
    root = sample_models.fake(tmp_path / "model")
    (root / "model.json").write_text("{ }", encoding="ascii")
    assert "copy it again" in disk.examine(Settings(model=str(root)))[1][0].text
    manifest = root / "manifest.json"
    manifest.write_text(manifest.read_text("utf-8").replace('"fake"', '"frobnicator"'), encoding="utf-8")
    assert "unknown backend 'frobnicator'" in disk.examine(Settings(model=str(root), verify_digests=False))[1][0].text


def test_a_file_that_this_user_may_not_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = sample_models.fake(tmp_path / "model")
    # Root may read everything: the answer of the kernel to another user is given in its place.
    monkeypatch.setattr(os, "access", lambda path, _mode: Path(path).name != "model.json")
    found = disk.examine(Settings(model=str(root)))[1]
    assert f"cannot read {root / 'model.json'}" in found[0].text
    assert "chmod" in found[0].advice


def test_a_multi_model_server_needs_no_model_on_disk(tmp_path: Path) -> None:
    found, findings = disk.examine(Settings(model=str(tmp_path / "none"), multi_model=True))
    assert not found.artifacts
    assert [one.level for one in findings] == [Level.OK]


@pytest.mark.parametrize(("backend", "level"), [("fake", Level.OK), ("missing", Level.FATAL)])
def test_the_backends_of_a_pipeline_are_those_of_its_steps(backend: str, level: Level, tmp_path: Path) -> None:
    steps = [{"name": "first", "backend": backend}]
    (tmp_path / "pipeline.json").write_text(json.dumps({"name": "line", "steps": steps}))
    _, findings = disk.examine(Settings(model=str(tmp_path)))
    assert [one.level for one in findings] == [level]


def test_a_script_is_a_model(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "inference.py").write_text("def model_fn(model_dir):\n    return abs\n")
    _, findings = disk.examine(Settings(model=str(tmp_path)))
    assert [one.level for one in findings] == [Level.OK]
    assert "inference.py" in findings[0].text
