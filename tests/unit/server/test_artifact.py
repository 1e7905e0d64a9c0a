"""The artifact: a manifest survives the round trip, and whatever is wrong with one is refused by name."""

from __future__ import annotations

import copy
import functools
import json
import math
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server import artifact as artifacts
from server.artifact import MANIFEST, Artifact, ArtifactFile, Batching, CostPoint, Manifest
from server.errors import BrokenArtifact
from server.target import BucketBytes, ClosedShapes, DeviceTarget
from server.tensors import BY_NAME, DTYPES, ModelSpec, TensorSpec

FP32 = BY_NAME["FP32"]
SPEC = ModelSpec((TensorSpec("x", FP32, (-1, 4)),), (TensorSpec("y", FP32, (-1, 3)),))
MINIMAL = Manifest("digits", "1", "onnxruntime", "model.onnx", SPEC)
COMPLETE = replace(
    MINIMAL,
    task="classification",
    labels=("zero", "one", "two"),
    batching=Batching((1, 2, 8), 2, 3),
    cost=(CostPoint(1, 20.5, 30.0), CostPoint(8, 55.0, 80.25)),
    evidence={"accuracy": {"float32": 0.98}, "candidates": [1, 2]},
    provenance={"seed": 7, "command": "optimize"},
    device=DeviceTarget("tensorrt", 90, 80, 580, {"tensorrt": "10.16.1"}, {"graphs": True}, 1 << 20),
    shapes=ClosedShapes((1, 8), (16, 32), (BucketBytes(8, 32, 4096),)),
)

names = st.text(max_size=12)
tensors = st.builds(
    TensorSpec, names, st.sampled_from(DTYPES), st.lists(st.integers(-1, 1 << 40), max_size=4).map(tuple)
)
microseconds = st.floats(1e-3, 1e9)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)
manifests = st.builds(
    Manifest,
    name=names,
    version=names,
    backend=names,
    model=st.just("model.onnx"),
    spec=st.builds(ModelSpec, *(st.lists(tensors, max_size=3).map(tuple),) * 2),
    task=names,
    labels=st.lists(names, max_size=3).map(tuple),
    batching=st.none()
    | st.builds(
        Batching,
        st.sets(st.integers(1, 512), min_size=1, max_size=5).map(lambda sizes: tuple(sorted(sizes))),
        st.integers(1, 64),
        st.integers(1, 64),
    ),
    cost=st.lists(st.builds(CostPoint, st.integers(1, 512), microseconds, microseconds), max_size=3).map(tuple),
    evidence=st.dictionaries(names, json_values, max_size=3),
    provenance=st.dictionaries(names, json_values, max_size=3),
    device=st.builds(
        DeviceTarget,
        st.sampled_from(["cpu", "cuda", "tensorrt", "tensorrt_rtx"]),
        sm=st.integers(0, 121),
        least_driver=st.integers(0, 600),
        versions=st.dictionaries(names, names, max_size=2),
        options=st.dictionaries(names, json_values, max_size=2),
        bytes=st.integers(0, 1 << 40),
    ),
    shapes=st.none()
    | st.builds(
        ClosedShapes,
        st.sets(st.integers(1, 512), min_size=1, max_size=4).map(lambda sizes: tuple(sorted(sizes))),
        st.sets(st.integers(1, 512), max_size=4).map(lambda sizes: tuple(sorted(sizes))),
        st.lists(st.builds(BucketBytes, st.integers(1, 9), st.integers(0, 9), st.integers(0, 1 << 40))).map(tuple),
    ),
)
contents = st.dictionaries(
    st.sampled_from(["model.onnx.data", "samples.npz", "code/inference.py", "code/manifest.json", "ä b/c"]),
    st.binary(min_size=1, max_size=40),
)


def lay_out(root: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


@pytest.fixture
def written(tmp_path: Path) -> Artifact:
    lay_out(tmp_path, {"model.onnx": b"weights", "code/inference.py": b"pass\n"})
    return artifacts.write(tmp_path, COMPLETE)


def edited(root: Path, body: Any) -> Path:
    (root / MANIFEST).write_text(json.dumps(body), encoding="utf-8")
    return root


def places(body: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value in a manifest, but for those in free-form objects."""
    if path:
        yield path
    free = path[:1] in (("evidence",), ("provenance",)) or path[:2] == ("device", "options")
    if not free and isinstance(body, (dict, list)):
        for key, value in body.items() if isinstance(body, dict) else enumerate(body):
            yield from places(value, (*path, key))


def at(body: Any, path: tuple[Any, ...]) -> Any:
    return functools.reduce(lambda inner, step: inner[step], path, body)


def put(body: Any, path: tuple[Any, ...], value: Any) -> Any:
    changed = copy.deepcopy(body)
    at(changed, path[:-1])[path[-1]] = value
    return changed


def without(body: Any, path: tuple[Any, ...]) -> Any:
    changed = copy.deepcopy(body)
    del at(changed, path[:-1])[path[-1]]
    return changed


BODY = replace(COMPLETE, files=(ArtifactFile("model.onnx", 7, "ab" * 32),)).to_json()
OPTIONAL = {"task", "labels", "batching", "cost", "files", "evidence", "provenance", "device", "shapes"}
OPTIONAL_WITHIN = {
    *(("device", name) for name in ("sm", "least_sm", "least_driver", "versions", "options", "bytes", "refittable")),
    *(("device", "versions", "tensorrt"), ("shapes", "lengths"), ("shapes", "bytes"), ("shapes", "bytes", 0, "length")),
}
REQUIRED = [
    path
    for path in places(BODY)
    if isinstance(path[-1], str) and not (len(path) == 1 and path[0] in OPTIONAL) and path not in OPTIONAL_WITHIN
]


@settings(max_examples=25)
@given(manifests, contents)
def test_what_is_written_is_read_again(manifest: Manifest, files: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        lay_out(root, {"model.onnx": b"weights", **files})
        written = artifacts.write(root, manifest)
        again = artifacts.read(root)
        assert again == written
        assert replace(again.manifest, files=()) == manifest
        assert {row.path for row in again.manifest.files} == {"model.onnx", *files}
        artifacts.verify(again)


@settings(max_examples=20)
@given(st.dictionaries(st.sampled_from(["a", "b/c"]), st.binary(min_size=1, max_size=64)), st.data())
def test_one_flipped_bit_in_any_file_is_found(files: dict[str, bytes], data: st.DataObject) -> None:
    files["model.onnx"] = b"weights"
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        lay_out(root, files)
        written = artifacts.write(root, MINIMAL)
        name = data.draw(st.sampled_from(sorted(files)))
        content = bytearray(files[name])
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        (root / name).write_bytes(content)
        with pytest.raises(BrokenArtifact, match=f"^{name} differs from its SHA-256"):
            artifacts.verify(written)


def test_a_file_of_another_size_is_found_and_both_sizes_are_told(written: Artifact) -> None:
    written.model_path.write_bytes(b"weights and more")
    with pytest.raises(BrokenArtifact, match=r"^model\.onnx has 16 bytes, the manifest says 7"):
        artifacts.verify(written)


def test_a_file_that_goes_away_between_reading_and_verifying_is_ours(written: Artifact) -> None:
    written.model_path.unlink()
    with pytest.raises(BrokenArtifact, match=r"model\.onnx"):
        artifacts.verify(written)


def test_reading_does_not_look_at_digests(written: Artifact) -> None:
    written.model_path.write_bytes(b"another")
    assert artifacts.read(written.root) == written


def test_the_model_path_is_inside_the_root(written: Artifact) -> None:
    assert written.model_path == written.root / "model.onnx"


def test_writing_twice_gives_the_same_bytes(written: Artifact) -> None:
    before = (written.root / MANIFEST).read_bytes()
    artifacts.write(written.root, COMPLETE)
    assert (written.root / MANIFEST).read_bytes() == before


def test_what_an_interrupted_write_left_behind_is_not_listed(written: Artifact) -> None:
    (written.root / (MANIFEST + ".partial")).write_text("{")
    artifacts.write(written.root, COMPLETE)
    assert artifacts.read(written.root) == written


def test_a_file_named_like_the_manifest_in_a_folder_is_listed(written: Artifact) -> None:
    lay_out(written.root, {"code/manifest.json": b"{}"})
    assert "code/manifest.json" in {row.path for row in artifacts.write(written.root, COMPLETE).manifest.files}


def test_an_artifact_may_do_without_every_optional_field(written: Artifact) -> None:
    body = {key: value for key, value in BODY.items() if key not in OPTIONAL}
    assert artifacts.read(edited(written.root, body)).manifest == MINIMAL


def test_fields_of_a_later_version_are_passed_over(written: Artifact) -> None:
    assert artifacts.read(edited(written.root, {**BODY, "colour": "red"})).manifest.name == "digits"


@pytest.mark.parametrize("path", REQUIRED, ids=lambda path: ".".join(map(str, path)))
def test_a_missing_field_is_named(path: tuple[Any, ...]) -> None:
    with pytest.raises(BrokenArtifact) as caught:
        Manifest.from_json(without(BODY, path))
    assert str(path[-1]) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        pytest.param(path, wrong, id=f"{'.'.join(map(str, path))}={wrong!r}")
        for path in places(BODY)
        for wrong in (None, True, {"a": 1}, [None], math.inf, math.nan)
        if not (isinstance(wrong, dict) and isinstance(at(BODY, path), dict))
        if not (wrong is None and path in (("batching",), ("shapes",)))
        if not (wrong is True and (path == ("schema",) or isinstance(at(BODY, path), bool)))
    ],
)
def test_a_field_of_the_wrong_kind_is_named(path: tuple[Any, ...], wrong: Any) -> None:
    with pytest.raises(BrokenArtifact) as caught:
        Manifest.from_json(put(BODY, path, wrong))
    named = next(step for step in reversed(path) if isinstance(step, str))
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        (("labels",), "abc"),
        (("files",), "abc"),
        (("inputs",), {}),
        (("inputs", 0, "shape"), [-2, 4]),
        (("inputs", 0, "shape"), [2.5, 4]),
        (("inputs", 0, "shape"), "44"),
        (("inputs", 0, "datatype"), "FLOAT8"),
        (("cost", 0, "batch_size"), 0),
        (("cost", 0, "p50_us"), -1.0),
        (("files", 0, "bytes"), -1),
        (("files", 0, "bytes"), 7.5),
        (("batching", "batch_sizes"), []),
        (("batching", "batch_sizes"), [0, 1]),
        (("batching", "batch_sizes"), "12"),
        (("batching", "instances"), 0),
        (("batching", "threads"), 0),
    ],
    ids=str,
)
def test_an_impossible_value_is_refused_by_name(path: tuple[Any, ...], wrong: Any) -> None:
    with pytest.raises(BrokenArtifact) as caught:
        Manifest.from_json(put(BODY, path, wrong))
    assert next(step for step in reversed(path) if isinstance(step, str)) in str(caught.value)


@pytest.mark.parametrize("where", [("model",), ("files", 0, "path")], ids=["model", "file"])
@pytest.mark.parametrize("escape", ["../model.onnx", "/etc/passwd", "code/../../x", "..", ".", ""])
def test_a_path_that_leaves_the_artifact_is_refused(where: tuple[Any, ...], escape: str) -> None:
    with pytest.raises(BrokenArtifact, match="not a file inside the artifact"):
        Manifest.from_json(put(BODY, where, escape))


@pytest.mark.parametrize("body", [[], "text", 3, None])
def test_a_manifest_that_is_not_an_object_is_refused(body: Any) -> None:
    with pytest.raises(BrokenArtifact, match="must hold one JSON object"):
        Manifest.from_json(body)


@pytest.mark.parametrize("schema", [0, 2, None, "1"])
def test_another_schema_is_refused_saying_what_to_do(schema: Any) -> None:
    with pytest.raises(BrokenArtifact, match="this build reads 1: run optimize again"):
        Manifest.from_json({**BODY, "schema": schema})


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is not JSON"),
        (b'{"schema": 1,', "is not JSON"),
        (b"\xef\xbb\xbf{}", "is not JSON"),
        (b"\xff\xfe", "cannot read"),
        pytest.param(b"[" * 100_000, "is not JSON", id="nested without end"),
    ],
)
def test_an_unreadable_manifest_is_refused(content: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_bytes(content)
    with pytest.raises(BrokenArtifact, match=reason) as refused:
        artifacts.read(tmp_path)
    assert str(tmp_path) not in str(refused.value)


def test_no_manifest_and_no_directory_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BrokenArtifact, match=f"no {MANIFEST} in"):
        artifacts.read(tmp_path)
    with pytest.raises(BrokenArtifact, match=f"no {MANIFEST} in"):
        artifacts.read(tmp_path / "nowhere")
    (tmp_path / MANIFEST).mkdir()
    with pytest.raises(BrokenArtifact, match="cannot read"):
        artifacts.read(tmp_path)


@pytest.mark.parametrize("where", [("model",), ("files", 0, "path")], ids=["model", "file"])
def test_a_named_file_that_is_not_there_is_refused(where: tuple[Any, ...], written: Artifact) -> None:
    with pytest.raises(BrokenArtifact, match=r"names gone\.onnx, which is not in"):
        artifacts.read(edited(written.root, put(BODY, where, "gone.onnx")))


def test_the_largest_batch_size_is_the_maximum() -> None:
    assert Batching((1, 4, 2)).max_batch_size == 4


def test_batch_sizes_are_sorted_and_counted_once() -> None:
    manifest = Manifest.from_json(put(BODY, ("batching", "batch_sizes"), [8, 1, 8, 2]))
    assert manifest.batching is not None
    assert manifest.batching.batch_sizes == (1, 2, 8)


def test_an_artifact_without_a_device_is_for_cpus_and_any_shape() -> None:
    read = Manifest.from_json(without(without(BODY, ("device",)), ("shapes",)))
    assert read.device == DeviceTarget()
    assert read.shapes is None
    assert "device" not in replace(MINIMAL).to_json()


def test_an_unknown_kind_of_device_is_refused_by_name() -> None:
    with pytest.raises(BrokenArtifact, match=r"'npu'.*tensorrt"):
        Manifest.from_json(put(BODY, ("device", "kind"), "npu"))


@pytest.mark.parametrize(("rows", "bucket"), [(1, 1), (2, 8), (8, 8), (9, 0)])
def test_rows_round_up_to_a_bucket(rows: int, bucket: int) -> None:
    assert ClosedShapes((1, 8)).rows_for(rows) == bucket


def test_buckets_are_listed_from_the_largest_down() -> None:
    assert ClosedShapes((1, 8)).buckets() == [(8, 0), (1, 0)]
    assert ClosedShapes((1, 8), (16, 32)).buckets() == [(8, 32), (8, 16), (1, 32), (1, 16)]
