"""Folders of Triton: which versions and which file are served, and what is said about models that are not."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from server.errors import BrokenArtifact, SlipwayError
from server.models.follower import Follower
from server.models.repository import identify, open_artifact, open_found, scan
from server.settings.options import Settings
from tests import onnx_graphs
from tests.fake_models import FakeLoader, fake_models


def repository(root: Path, config: str | None, *files: str, name: str = "mlp") -> Path:
    model = root / name
    for file in files:
        (model / file).parent.mkdir(parents=True, exist_ok=True)
        if file.endswith(".onnx"):
            onnx_graphs.save(onnx_graphs.perceptron, model / file)
        else:
            (model / file).write_bytes(b"a\nb\nc\n")
    if config is not None:
        (model / "config.pbtxt").write_text(config)
    return root


def test_a_repository_as_triton_has_it(tmp_path: Path) -> None:
    config = "platform: 'onnxruntime_onnx' default_model_filename: 'net.onnx' output { name: 'y' data_type: TYPE_FP32 "
    config += "dims: [-1, 3] label_filename: 'labels.txt' }"
    files = ("1/net.onnx", "2/net.onnx", "2/model.onnx", "03/net.onnx", "draft/net.onnx", "labels.txt")
    repository(tmp_path, config, *files)
    found = scan(tmp_path, Settings())
    assert [(one.name, one.version) for one in found] == [("mlp", "1"), ("mlp", "2")]
    artifact = open_found(found[-1], Settings())
    assert (artifact.manifest.name, artifact.manifest.version, artifact.manifest.model) == ("mlp", "2", "net.onnx")
    assert artifact.manifest.labels == ("a", "b", "c")
    assert identify(tmp_path / "mlp", Settings()).version == "2"


@pytest.mark.parametrize(
    ("policy", "keep", "expected"),
    [
        ("", 1, ["10"]),
        ("", 0, ["1", "2", "10"]),
        ("version_policy { latest { num_versions: 2 } }", 1, ["2", "10"]),
        ("version_policy { all { } }", 1, ["1", "2", "10"]),
        ("version_policy { specific { versions: [1, 2, 7] } }", 1, ["1", "2"]),
    ],
)
def test_the_version_policy_wins_over_the_setting(policy: str, keep: int, expected: list[str], tmp_path: Path) -> None:
    root = repository(tmp_path, policy, "1/model.onnx", "2/model.onnx", "10/model.onnx")
    settings = Settings(model=str(root), keep_versions=keep)
    models, _ = fake_models(FakeLoader(), settings)
    follower = Follower(models, settings)
    assert [one.version for one in follower._wanted(scan(root, settings))] == expected


def test_a_changed_config_is_a_changed_model(tmp_path: Path) -> None:
    root = repository(tmp_path, "max_batch_size: 4", "1/model.onnx")
    (before,) = scan(root, Settings())
    repository(tmp_path, "max_batch_size: 16", "1/model.onnx")
    (after,) = scan(root, Settings())
    assert before.stamp != after.stamp


def test_a_model_folder_with_weights_beside_it(tmp_path: Path) -> None:
    root = repository(tmp_path, "backend: 'onnxruntime'", "1/model.onnx/model.onnx", "1/model.onnx/weights.bin")
    assert open_found(scan(root, Settings())[0], Settings()).manifest.model == "model.onnx/model.onnx"


@pytest.mark.parametrize(
    ("config", "backend", "file"),
    [
        ("backend: 'tensorrt'", "tensorrt", "model.plan"),
        ("platform: 'tensorrt_plan'", "tensorrt", "model.plan"),
        ("", "tensorrt", "model.plan"),
        ("backend: 'openvino'", "openvino", "model.xml"),
    ],
)
def test_engines_and_openvino_files(config: str, backend: str, file: str, tmp_path: Path) -> None:
    root = repository(tmp_path, config, f"1/{file}")
    manifest = open_found(scan(root, Settings())[0], Settings()).manifest
    assert (manifest.backend, manifest.model) == (backend, file)
    assert manifest.device.kind == ("tensorrt" if backend == "tensorrt" else "cpu")


@pytest.mark.parametrize(
    ("config", "file", "reason"),
    [
        ("backend: 'python'", "1/model.py", "'python' cannot be run here.*serve it as a script"),
        ("platform: 'pytorch_libtorch'", "1/model.pt", r"'pytorch_libtorch' cannot be run.*optimize model\.pt"),
        ("platform: 'ensemble' ensemble_scheduling { }", "1/empty", "declare its steps in a pipeline.json"),
        ("", "1/model.savedmodel/saved_model.pb", r"optimize model\.savedmodel"),
        ("", "1/other.bin", "1 has no model.onnx"),
        ("default_model_filename: 'a.onnx'", "1/model.onnx", "1 has no a.onnx"),
        ("max_batch_size 4", "1/model.onnx", "config.pbtxt: line 1"),
        (
            "output { name: 'y' data_type: TYPE_FP32 dims: 3 label_filename: 'no.txt' }",
            "1/model.onnx",
            "cannot read",
        ),
    ],
)
def test_what_cannot_be_served_is_said_at_its_load(config: str, file: str, reason: str, tmp_path: Path) -> None:
    (found,) = scan(repository(tmp_path, config, file), Settings())
    assert (found.name, found.version) == ("mlp", "1")
    with pytest.raises(BrokenArtifact, match=reason) as raised:
        open_found(found, Settings())
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("file", ["model.joblib", "1/model.py", "model.pt", "1/saved_model.pb"])
def test_a_folder_without_a_config_says_what_it_holds_instead(file: str, tmp_path: Path) -> None:
    with pytest.raises(BrokenArtifact, match=f"must hold a manifest.json .*; {Path(file).name} is "):
        scan(repository(tmp_path, None, file) / "mlp", Settings())


def test_optimums_class_names_become_labels(tmp_path: Path) -> None:
    onnx_graphs.save(onnx_graphs.perceptron, tmp_path / "onnx" / "model.onnx")
    for text, labels in (
        ('{"id2label": {"1": "no", "0": "yes"}}', ("yes", "no")),
        ('{"id2label": {"5": "x"}}', ()),
        ("[", ()),
    ):
        (tmp_path / "config.json").write_text(text)
        assert open_artifact(tmp_path, Settings()).manifest.labels == labels


def test_a_large_file_is_not_read_as_a_config(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = repository(tmp_path, "# " + "x" * 5_000_000, "1/model.onnx")
    with caplog.at_level(logging.WARNING), pytest.raises(SlipwayError, match=r"config\.pbtxt has more than"):
        open_found(scan(root, Settings())[0], Settings())
