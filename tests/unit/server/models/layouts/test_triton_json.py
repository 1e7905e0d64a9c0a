"""A model configuration as JSON says the same as protobuf's own reading of it, written as text."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import json_format, text_format

from server.errors import BrokenArtifact, MalformedInput
from server.grpc import inference_pb2 as messages
from server.models.layouts.triton_config import read_config
from server.models.layouts.triton_json import as_text

FULL: dict[str, Any] = {
    "name": "mlp",
    "backend": "onnxruntime",
    "max_batch_size": 64,
    "default_model_filename": "net.onnx",
    "input": [{"name": 'x "1"', "data_type": "TYPE_FP32", "format": "FORMAT_NCHW", "dims": ["-1", 2]}],
    "output": [{"name": "y\n\u0001é😀", "data_type": "TYPE_STRING", "dims": ["3"], "label_filename": "labels.txt"}],
    "instance_group": [{"count": 2, "kind": "KIND_CPU"}, {"kind": "KIND_GPU", "gpus": [0], "name": "7"}],
    "dynamic_batching": {"preferred_batch_size": [4, 8], "max_queue_delay_microseconds": "100"},
    "version_policy": {"specific": {"versions": ["1", 3]}},
    "parameters": {"intra_op_thread_count": {"string_value": "2"}, "a: }\\": {"string_value": "12"}},
    "model_transaction_policy": {"decoupled": False},
    "response_cache": None,
}


def test_a_whole_config_reads_as_protobuf_has_it() -> None:
    message = json_format.ParseDict(FULL, messages.ModelConfig())
    assert read_config(as_text(FULL)) == read_config(text_format.MessageToString(message))


def test_an_empty_config_says_nothing() -> None:
    assert read_config(as_text({})) == read_config("")


@pytest.mark.parametrize(
    "config",
    [{"a b": 1}, {"name } x": "y"}, {"dims": [[1]]}, {"optimization": {"": 1}}],
)
def test_what_no_config_has_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises(MalformedInput, match=r"^config: "):
        as_text(config)


def test_depth_is_bounded() -> None:
    deep: dict[str, Any] = {}
    for _ in range(200):
        deep = {"sub": deep}
    with pytest.raises(MalformedInput, match="deep"):
        as_text(deep)


@pytest.mark.parametrize(
    "config", [{"max_batch_size": 1.5}, {"max_batch_size": True}, {"backend": 7}, {"name": True}, {"surprise": "x"}]
)
def test_values_of_another_type_are_refused_by_the_reader(config: dict[str, Any]) -> None:
    with pytest.raises(BrokenArtifact, match=next(iter(config))):
        read_config(as_text(config))
