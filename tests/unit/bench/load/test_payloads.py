"""Payload sets: what is named is found, weighted and chosen by seed; what is generated fits the model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from bench.errors import Unusable
from bench.load import generate, payload_set
from bench.load.payload import Payload

TENSORS = (
    generate.Tensor("x", "FP32", (-1, 3)),
    generate.Tensor("ids", "INT64", (-1, -1)),
    generate.Tensor("words", "BYTES", (-1, 1)),
)


def nothing(rows: int) -> Sequence[Payload]:
    raise AssertionError(f"nobody asked for {rows} rows")


def read(*asked: str) -> payload_set.PayloadSet:
    return payload_set.read(asked, None, nothing)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.json").write_text("{}")
    (tmp_path / "b.json").write_text('{"longer": true}')
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "one.txt").write_text("one\n\ntwo\n")
    (tmp_path / "texts" / "two.png").write_bytes(b"\x89PNG")
    return tmp_path


def test_weights_decide_how_often(folder: Path) -> None:
    found = read(f"{folder}/a.json:3", f"{folder}/b.json:1")
    assert (found.weights, found.name) == ((3.0, 1.0), "2 payloads")
    assert found.mean_bytes == pytest.approx((3 * 2 + 16) / 4)
    chosen = found.choices(1, 10_000)
    assert (chosen == 0).mean() == pytest.approx(0.75, abs=0.02)
    assert np.array_equal(chosen, found.choices(1, 10_000))
    assert not np.array_equal(chosen, found.choices(2, 10_000))


def test_a_folder_is_a_set_and_its_files_share_its_weight(folder: Path) -> None:
    found = read(f"{folder}/texts:2", f"{folder}/a.json")
    assert [(one.name, one.content_type) for one in found.payloads[:2]] == [
        ("one.txt", "text/plain"),
        ("two.png", "image/png"),
    ]
    assert found.weights == (1.0, 1.0, 1.0)


def test_lines_are_payloads_of_their_own(folder: Path) -> None:
    found = read(f"lines:{folder}/texts/one.txt:4")
    assert [(one.body, one.content_type) for one in found.payloads] == [(b"one", "text/plain"), (b"two", "text/plain")]
    (folder / "many.jsonl").write_text('{"a": 1}\n{"a": 2}\n')
    assert {one.content_type for one in read(f"lines:{folder}/many.jsonl").payloads} == {"application/json"}


def test_a_file_whose_name_ends_like_a_weight_is_that_file(folder: Path) -> None:
    (folder / "odd:3").write_text("x")
    assert read(f"{folder}/odd:3").payloads[0].name == "odd:3"


@pytest.mark.parametrize("asked", ["missing.json", "{folder}/a.json:0", "{folder}/empty", "generate@0", "generate@x"])
def test_what_is_no_payload_is_refused(folder: Path, asked: str) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(Unusable):
        read(asked.format(folder=folder))


def test_a_load_without_a_payload_is_refused() -> None:
    with pytest.raises(Unusable, match="--payload"):
        read()


def test_a_trace_chooses_by_name() -> None:
    both = payload_set.PayloadSet((Payload("a", "t", b"1"), Payload("b", "t", b"2")), (1, 1))
    zeros = np.zeros(1, dtype=np.uint16)
    assert both.named(("b", None, "a"), zeros).tolist() == [1, 0, 0]
    with pytest.raises(Unusable, match="'c'"):
        both.named(("c",), zeros)


def test_generated_json_fits_the_model_and_the_seed() -> None:
    first, *_ = made = generate.random_bodies(TENSORS, 2, binary=False, seed=1)
    document = json.loads(first.body)
    assert [(one["name"], one["shape"], one["datatype"]) for one in document["inputs"]] == [
        ("x", [2, 3], "FP32"),
        ("ids", [2, generate.FREE_AXIS], "INT64"),
        ("words", [2, 1], "BYTES"),
    ]
    for one in document["inputs"]:
        assert len(one["data"]) == np.prod(one["shape"])
    assert len({one.sha256 for one in made}) == generate.BODIES
    assert made == generate.random_bodies(TENSORS, 2, binary=False, seed=1)
    assert made != generate.random_bodies(TENSORS, 2, binary=False, seed=2)


def test_generated_binary_carries_what_its_json_says() -> None:
    body = generate.random_bodies(TENSORS[:2], 4, binary=True, seed=1)[0]
    ((name, length),) = body.headers
    assert name == generate.BINARY_HEADER
    document = json.loads(body.body[: int(length)])
    sizes = [one["parameters"]["binary_data_size"] for one in document["inputs"]]
    assert sizes == [4 * 3 * 4, 4 * generate.FREE_AXIS * 8]
    assert len(body.body) == int(length) + sum(sizes)


def test_binary_strings_have_their_length_before_them() -> None:
    body = generate.random_bodies(TENSORS[2:], 1, binary=True, seed=1)[0]
    blob = body.body[int(body.headers[0][1]) :]
    assert int.from_bytes(blob[:4], "little") == len(blob) - 4
    assert blob[4:].decode() in generate.WORDS


def test_samples_are_sent_as_they_are(tmp_path: Path) -> None:
    rows = np.arange(6, dtype=np.float32).reshape(3, 2)
    np.savez(tmp_path / "samples.npz", **{"input:x": rows, "output:y": rows})  # type: ignore[arg-type]  # by name
    found = generate.sample_bodies(tmp_path, 2, binary=False)
    data = [json.loads(one.body)["inputs"][0]["data"] for one in found]
    assert data == [[0, 1, 2, 3], [4, 5, 0, 1]]
    with pytest.raises(Unusable, match="cannot read the samples"):
        generate.sample_bodies(tmp_path / "missing", 1, binary=False)


def test_metadata_is_read_or_refused() -> None:
    told = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}]}
    assert generate.inputs(told) == TENSORS[:1]
    broken: Mapping[str, object]
    for broken in ({}, {"inputs": []}, {"inputs": [{"name": "x", "datatype": "COMPLEX", "shape": [1]}]}):
        with pytest.raises(Unusable, match="--payload FILE"):
            generate.inputs(broken)
