"""The zoo's client of the Open Inference Protocol: JSON and binary tensors, shared with no code of the server."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .exchange import Expected, Response, Sent, from_nested, infer_path, invoke_path, json_bytes, nested
from .model import Tensors

DATATYPES = {
    "bool": "BOOL", "int8": "INT8", "int16": "INT16", "int32": "INT32", "int64": "INT64", "uint8": "UINT8",
    "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64", "float16": "FP16", "float32": "FP32",
    "float64": "FP64", "bfloat16": "BF16", "object": "BYTES",
}  # fmt: skip
TRITON = "application/vnd.sagemaker-triton.binary+json"


def v2_json(model: str, inputs: Tensors, expected: Expected) -> Sent:
    """Tensors as JSON."""
    rows = [
        {
            "name": name,
            "datatype": DATATYPES[array.dtype.name],
            "shape": array.shape,
            "data": nested(array.reshape(-1)),
        }
        for name, array in inputs.items()
    ]
    return Sent(infer_path(model), {"Content-Type": "application/json"}, json_bytes({"inputs": rows}))


def v2_json_read(response: Response, expected: Expected) -> dict[str, Any]:
    """Outputs of a JSON response."""
    found = {}
    for row in json.loads(response.body)["outputs"]:
        like = expected[row["name"]]
        assert row["datatype"] == DATATYPES[like.dtype.name], row
        found[row["name"]] = from_nested(row["data"], like).reshape(row["shape"])
    return found


def _blob(array: NDArray[Any]) -> bytes:
    if array.dtype.kind != "O":
        return np.ascontiguousarray(array).tobytes()
    texts = [text.encode() for text in array.reshape(-1)]
    return b"".join(len(text).to_bytes(4, "little") + text for text in texts)


def _v2_binary_body(inputs: Tensors) -> tuple[bytes, bytes]:
    blobs = [_blob(array) for array in inputs.values()]
    rows = [
        {
            "name": name,
            "datatype": DATATYPES[array.dtype.name],
            "shape": array.shape,
            "parameters": {"binary_data_size": len(blob)},
        }
        for (name, array), blob in zip(inputs.items(), blobs, strict=True)
    ]
    return json_bytes({"inputs": rows, "parameters": {"binary_data_output": True}}), b"".join(blobs)


def v2_binary(model: str, inputs: Tensors, expected: Expected) -> Sent:
    """The protocol's binary tensors, inputs and outputs."""
    head, blobs = _v2_binary_body(inputs)
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    return Sent(infer_path(model), headers, head + blobs)


def v2_through_invoke(model: str, inputs: Tensors, expected: Expected) -> Sent:
    """Binary tensors in the media type of SageMaker's Triton containers."""
    head, blobs = _v2_binary_body(inputs)
    media = f"{TRITON};json-header-size={len(head)}"
    return Sent(invoke_path(model), {"Content-Type": media, "Accept": TRITON}, head + blobs)


def v2_binary_read(response: Response, expected: Expected) -> dict[str, Any]:
    """Outputs of a binary response, whether the length of its JSON is in a header or in the media type."""
    media = response.headers.get("content-type", "")
    length = response.headers.get("inference-header-content-length") or media.partition("json-header-size=")[2]
    size = int(length) if length else len(response.body)
    found, at = {}, size
    for row in json.loads(response.body[:size])["outputs"]:
        like = expected[row["name"]]
        assert row["datatype"] == DATATYPES[like.dtype.name], row
        blob = response.body[at : at + row["parameters"]["binary_data_size"]]
        at += len(blob)
        found[row["name"]] = (_texts(blob) if like.dtype.kind == "O" else np.frombuffer(blob, like.dtype)).reshape(
            row["shape"]
        )
    assert at == len(response.body)
    return found


def _texts(blob: bytes) -> NDArray[Any]:
    texts, at = [], 0
    while at < len(blob):
        size = int.from_bytes(blob[at : at + 4], "little")
        texts.append(blob[at + 4 : at + 4 + size].decode())
        at += 4 + size
    return np.array(texts, object)
