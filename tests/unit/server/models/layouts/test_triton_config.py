"""config.pbtxt: what is honoured, what is named, and what is refused in one sentence."""

from __future__ import annotations

import pytest

from server.declaration import Declaration, DeclaredTensor
from server.errors import BrokenArtifact
from server.models.layouts.triton_config import TYPES, read_config
from server.tensors import BY_NAME

FULL = """
# As other projects write it.
name: "mlp"
platform: "onnxruntime_onnx"
max_batch_size: 64
default_model_filename: "net.onnx"
input [ { name: "x" data_type: TYPE_FP32 format: FORMAT_NCHW dims: [ 2, 2 ] reshape { shape: [ 4 ] } } ]
output [
  { name: "y", data_type: TYPE_FP32, dims: [ 3 ], label_filename: "labels.txt" }
]
instance_group [ { count: 2 kind: KIND_CPU }, { kind: KIND_GPU gpus: [ 0 ] } ]
dynamic_batching {
  preferred_batch_size: [ 4, 8 ]
  max_queue_delay_microseconds: 100
  default_queue_policy { default_timeout_microseconds: 5000 max_queue_size: 10 }
  priority_levels: 2
}
version_policy: { specific { versions: [ 1, 3 ] } }
parameters { key: "intra_op_thread_count" value { string_value: "2" } }
parameters: { key: "note", value: { string_value: "mine" } }
optimization { execution_accelerators { cpu_execution_accelerator: [ { name: "openvino" } ] } }
model_warmup [ { name: "w" batch_size: 1 inputs { key: "x" value { dims: 4 zero_data: true } } } ]
"""


def test_a_whole_config() -> None:
    config = read_config(FULL)
    assert config.declaration == Declaration(
        file="config.pbtxt",
        max_batch_size=64,
        batch_sizes=(4, 8),
        instances=3,
        threads=2,
        max_queue_delay_us=100,
        queue_timeout_us=5000,
        inputs=(DeclaredTensor("x", BY_NAME["FP32"], (2, 2), (4,)),),
        outputs=(DeclaredTensor("y", BY_NAME["FP32"], (3,)),),
        parameters={"intra_op_thread_count": "2", "note": "mine"},
        ignored=(
            *("optimization", "model_warmup", "dynamic_batching.priority_levels"),
            *("dynamic_batching.default_queue_policy.max_queue_size", "instance_group[1].gpus"),
            *("instance_group[1].kind", "parameters['note']"),
        ),
    )
    assert (config.name, config.platform, config.filename) == ("mlp", "onnxruntime_onnx", "net.onnx")
    assert (config.latest, config.versions, config.label_files) == (0, ("1", "3"), (("y", "labels.txt"),))


def test_an_empty_config_says_nothing() -> None:
    assert read_config("").declaration == Declaration(file="config.pbtxt")


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("", (None, None)),
        ("version_policy { latest { num_versions: 2 } }", (2, None)),
        ("version_policy: { all { } }", (0, None)),
        ("version_policy: { specific: { versions: [2] } }", (0, ("2",))),
    ],
)
def test_the_version_policy(policy: str, expected: tuple[int | None, tuple[str, ...] | None]) -> None:
    config = read_config(policy)
    assert (config.latest, config.versions) == expected


def test_the_words_of_all_data_types() -> None:
    assert TYPES[13] == "TYPE_STRING"
    for number, word in enumerate(TYPES[1:], 1):
        (tensor,) = read_config(f"input {{ name: 'x' data_type: {word} dims: 1 }}").declaration.inputs
        assert tensor.dtype.name == {"STRING": "BYTES"}.get(word.removeprefix("TYPE_"), word.removeprefix("TYPE_"))
        assert read_config(f"input {{ name: 'x' data_type: {number} dims: 1 }}").declaration.inputs == (tensor,)


def tensor(rest: str) -> str:
    return f"input {{ name: 'x' data_type: TYPE_FP32 {rest} }}"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("max_batch_size: -1", "max_batch_size must be 0 or more"),
        ("max_batch_size: 'four'", "max_batch_size must be a whole number"),
        ("max_batchsize: 4", "max_batchsize is not known"),
        ("ensemble_scheduling { step [] }", "served as a pipeline"),
        ("sequence_batching { }", "sequence_batching cannot be honoured"),
        ("sequence_batching { } dynamic_batching { }", "only one of"),
        ("batch_input { }", "batch_input cannot be honoured"),
        ("model_repository_agents { }", "agents"),
        (tensor(""), r"input\[0\] needs a name, a data_type and dims"),
        ("input { name: 'x' dims: 1 }", "needs a name"),
        (tensor("dims: 0"), "sizes of 1 or more"),
        (tensor("dims: -2"), "sizes of 1 or more"),
        (tensor("dims: 4 reshape { shape: [2] }"), r"reshape: \[4\] and \[2\] differ"),
        (tensor("dims: [-1, 4] reshape { shape: [4, -1] }"), "differ in size"),
        (tensor("dims: 4 allow_ragged_batch: true"), "allow_ragged_batch cannot be honoured"),
        (tensor("dims: 4 is_shape_tensor: true"), "is_shape_tensor cannot be honoured"),
        ("default_model_filename: '../../etc/passwd'", "the name of a file"),
        ("output { name: 'y' data_type: TYPE_FP32 dims: 1 label_filename: '/etc/passwd' }", "the name of a file"),
        ("instance_group { count: 100000 }", "at most 256"),
        ("max_batch_size: 4 dynamic_batching { preferred_batch_size: 8 }", "from 1 to max_batch_size"),
        ("parameters { key: 'intra_op_thread_count' value { string_value: 'all' } }", "from 0 to 1024"),
        ("version_policy { latest { } all { } }", "only one of version_policy.latest"),
        ("dynamic_batching { max_queue_delay_microseconds: 18446744073709551615 }", "centuries"),
        ('name: "m" }', "line 1"),
        ("\0", "not understood"),
    ],
)
def test_what_is_wrong_or_would_change_answers_is_refused(text: str, reason: str) -> None:
    with pytest.raises(BrokenArtifact, match=reason) as raised:
        read_config(text)
    assert str(raised.value).startswith("config.pbtxt: ")
    assert "\n" not in str(raised.value)
