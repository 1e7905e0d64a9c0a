"""Sent files: written where a repository has them, and refused by name where they cannot be."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

import pytest

from server.errors import MalformedInput
from server.protocols.open_inference import sent_files

MODEL = base64.b64encode(b"the model").decode()


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_the_folder_is_like_one_of_a_repository() -> None:
    parameters = {"config": '{"max_batch_size": "4"}', "file:1/model.onnx": MODEL, "file:1/a/w-0 1.data": ""}
    folder = sent_files.write({**parameters, "file:labels.txt": MODEL}, "m")
    written = {one.relative_to(folder.path).as_posix(): one.read_bytes() for one in folder.path.rglob("*.*")}
    assert written == {
        "config.pbtxt": b"max_batch_size: 4\n",
        "1/model.onnx": b"the model",
        "1/a/w-0 1.data": b"",
        "labels.txt": b"the model",
    }
    folder.remove()


@pytest.mark.parametrize(
    ("parameters", "word"),
    [
        ({"file:1/model.onnx": MODEL}, "need the parameter config"),
        ({"config": {}, "file:1/model.onnx": MODEL}, "text with one JSON object"),
        ({"config": "[]", "file:1/model.onnx": MODEL}, "JSON object"),
        ({"config": '{"name": "other"}', "file:1/model.onnx": MODEL}, "'name' must be 'm'"),
        ({"config": "{}", "file:1/model.onnx": MODEL, "surprise": 1}, "'surprise' is not known"),
        ({"config": "{}", "file:model.onnx": MODEL}, "folder of a version"),
        ({"config": "{}", "file:01/model.onnx": MODEL}, "folder of a version"),
        ({"config": "{}", "file:1/config.pbtxt": MODEL}, "parameter config"),
        (
            {"config": "{}", "file:1/model.onnx": MODEL, "file:1/model.onnx/a": MODEL},
            "'1/model.onnx/a' cannot be written",
        ),
        ({"config": "{}", "file:1/model.onnx": 7}, "base64"),
        ({"config": "{}", "file:1/model.onnx": "AAA"}, "base64"),
        ({"config": "{}", "file:1/model.onnx": "AAA\u00e9"}, "base64"),
        ({"config": "{}", "file:1/model.onnx": "A\nAAA"}, "base64"),
        ({"config": "{}", **{f"file:1/{one}": "" for one in range(1_001)}}, "1001 files"),
        *(
            ({"config": "{}", "file:1/model.onnx": MODEL, "file:" + path: MODEL}, "no path inside")
            for path in ("", "/etc/x", "../x", "1/../../x", "1//x", "1/.x", "1/", "1/a\\b", "1/a\0b", "1/" * 9 + "x")
        ),
    ],
)
def test_what_cannot_be_written_is_refused_and_leaves_nothing(
    parameters: dict[str, Any], word: str, temporary: Path
) -> None:
    assert sent_files.are_sent(parameters)
    with pytest.raises(MalformedInput, match=re.escape(word)):
        sent_files.write(parameters, "m")
    assert not [*temporary.iterdir()]
