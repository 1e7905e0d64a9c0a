"""``config.pbtxt`` of Triton: its text to a declaration. What changes answers and cannot be honoured is refused."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

from ...declaration import Declaration, DeclaredTensor
from ...errors import BrokenArtifact
from ...tensors import BY_NAME, describe_shape
from .fields import INT32, INT64, UINT32, UINT64, Fields
from .text_format import Message, parse

CONFIG = "config.pbtxt"
MOST_INSTANCES = 256

TYPES = ["TYPE_INVALID", "TYPE_BOOL", *(f"TYPE_UINT{bits}" for bits in (8, 16, 32, 64))]
TYPES += [*(f"TYPE_INT{bits}" for bits in (8, 16, 32, 64)), *(f"TYPE_FP{bits}" for bits in (16, 32, 64))]
TYPES += ["TYPE_STRING", "TYPE_BF16"]
"""The words for data types, each at its number."""

FORMATS = ("FORMAT_NONE", "FORMAT_NHWC", "FORMAT_NCHW")
KINDS = ("KIND_AUTO", "KIND_GPU", "KIND_CPU", "KIND_MODEL")

HONOURED = (
    *("name", "platform", "backend", "max_batch_size", "input", "output", "version_policy", "instance_group"),
    *("dynamic_batching", "default_model_filename", "parameters"),
)
IGNORED = (
    *("runtime", "optimization", "cc_model_filenames", "metric_tags", "model_warmup", "model_operations"),
    *("model_transaction_policy", "response_cache", "model_metrics"),
)
REFUSED = {
    "sequence_batching": "requests that belong together are not supported",
    "ensemble_scheduling": "an ensemble is served as a pipeline here: declare its steps in a pipeline.json",
    "batch_input": "inputs that the server makes from the batch are not supported",
    "batch_output": "outputs that the server cuts by the batch are not supported",
    "model_repository_agents": "agents that change the model's files are not supported",
}
SCHEDULING = ("dynamic_batching", "sequence_batching", "ensemble_scheduling")
THREADS = "intra_op_thread_count"
"""The one parameter of Triton's ONNX Runtime backend that this server has a word for."""


@dataclass(frozen=True, slots=True)
class TritonConfig:
    """A config. ``filename``: of the model's file in a version's folder, empty for the backend's usual one.

    ``latest``: how many versions are served, the highest; 0: all, None: the settings decide. ``versions``: just these;
    None: no such list.
    ``label_files``: (output, file name in the model's folder) of outputs with labels.
    """

    declaration: Declaration
    name: str = ""
    platform: str = ""
    filename: str = ""
    latest: int | None = None
    versions: tuple[str, ...] | None = None
    label_files: tuple[tuple[str, str], ...] = ()


def read_config(text: str) -> TritonConfig:
    """Raises BrokenArtifact, naming the field, for a text that is no config, and for what cannot be honoured."""
    try:
        return _config(parse(text))
    except BrokenArtifact as error:
        raise BrokenArtifact(f"{CONFIG}: {error}") from error


def _config(message: Message) -> TritonConfig:
    fields = Fields(message, (*HONOURED, *IGNORED, *REFUSED))
    fields.only_one_of(*SCHEDULING)
    for name, reason in REFUSED.items():
        if fields.has(name):
            raise BrokenArtifact(f"{name} cannot be honoured: {reason}")
    ignored = [name for name in IGNORED if fields.has(name)]
    most = fields.whole("max_batch_size", INT32)
    if most < 0:
        raise fields.wrong("max_batch_size", "0 or more")
    tensors = {
        kind: tuple(_tensor(one, kind, at, ignored) for at, one in enumerate(fields.messages(kind)))
        for kind in ("input", "output")
    }
    latest, versions = _versions(fields.message("version_policy"))
    parameters = _parameters(fields.messages("parameters"))
    batching = _batching(fields.message("dynamic_batching"), most, ignored)
    declaration = Declaration(
        file=CONFIG,
        max_batch_size=most if fields.has("max_batch_size") else None,
        batch_sizes=batching[0],
        max_queue_delay_us=batching[1],
        queue_timeout_us=batching[2],
        instances=_instances(fields.messages("instance_group"), ignored),
        threads=_threads(parameters, ignored),
        inputs=tuple(tensor for tensor, _ in tensors["input"]),
        outputs=tuple(tensor for tensor, _ in tensors["output"]),
        parameters=parameters,
        ignored=tuple(ignored),
    )
    return TritonConfig(
        declaration,
        name=fields.text("name"),
        platform=fields.text("backend") or fields.text("platform"),
        filename=_file_name(fields.text("default_model_filename"), "default_model_filename"),
        latest=latest,
        versions=versions,
        label_files=tuple((tensor.name, labels) for tensor, labels in tensors["output"] if labels),
    )


def _tensor(message: Message, kind: str, at: int, ignored: list[str]) -> tuple[DeclaredTensor, str]:
    """An input or output, and the name of the file with the labels of an output."""
    own = ("format", "allow_ragged_batch", "optional") if kind == "input" else ("label_filename",)
    common = ("name", "data_type", "dims", "reshape", "is_shape_tensor", "is_non_linear_format_io")
    where = f"{kind}[{at}]"
    fields = Fields(message, (*common, *own), where)
    for name in ("is_shape_tensor", "is_non_linear_format_io", "allow_ragged_batch"):
        if fields.flag(name):
            raise BrokenArtifact(f"{where}.{name} cannot be honoured: tensors are whole and in rows here")
    fields.word("format", FORMATS)  # says how to read the dims; the model's own order counts
    if fields.flag("optional"):
        ignored.append(f"{where}.optional")
    name, kind_of = fields.text("name"), fields.word("data_type", TYPES).removeprefix("TYPE_")
    if not name or kind_of == "INVALID" or not fields.has("dims"):
        raise BrokenArtifact(f"{where} needs a name, a data_type and dims")
    dims = _shape(fields, "dims")
    reshape = fields.message("reshape")
    inner = None if reshape is None else _shape(Fields(reshape, ("shape",), f"{where}.reshape"), "shape")
    if inner is not None and _runs(dims) != _runs(inner):
        raise BrokenArtifact(f"{where}.reshape: {describe_shape(dims)} and {describe_shape(inner)} differ in size")
    dtype = BY_NAME["BYTES" if kind_of == "STRING" else kind_of]
    return DeclaredTensor(name, dtype, dims, inner), _file_name(
        fields.text("label_filename"), f"{where}.label_filename"
    )


def _shape(fields: Fields, name: str) -> tuple[int, ...]:
    dims = fields.wholes(name, INT64)
    if any(size < -1 or size == 0 for size in dims):
        raise fields.wrong(name, "sizes of 1 or more, or -1 for any")
    return dims


def _runs(shape: tuple[int, ...]) -> list[int]:
    """The elements between the axes of any size: two shapes with the same runs can be reshaped into each other."""
    runs = [1]
    for size in shape:
        if size == -1:
            runs.append(1)
        else:
            runs[-1] *= size
    return runs


def _versions(policy: Message | None) -> tuple[int | None, tuple[str, ...] | None]:
    """How many of the highest versions are served (0: all), and the versions of a list. None: not said."""
    if policy is None:
        return None, None
    fields = Fields(policy, ("latest", "all", "specific"), "version_policy")
    fields.only_one_of("latest", "all", "specific")
    Fields(fields.message("all") or {}, (), "version_policy.all")
    specific = fields.message("specific")
    if specific is not None:
        inner = Fields(specific, ("versions",), "version_policy.specific")
        return 0, tuple(str(version) for version in inner.wholes("versions", INT64))
    if fields.has("all"):
        return 0, None
    latest = Fields(fields.message("latest") or {}, ("num_versions",), "version_policy.latest")
    return latest.whole("num_versions", UINT32) or 1, None


def _batching(message: Message | None, most: int, ignored: list[str]) -> tuple[tuple[int, ...], int, int]:
    """Preferred batch sizes, the delay in microseconds, and the longest predicted wait in microseconds (0: none)."""
    where = "dynamic_batching"
    own = ("priority_levels", "default_priority_level", "priority_queue_policy", "preserve_ordering")
    known = ("preferred_batch_size", "max_queue_delay_microseconds", "default_queue_policy", *own)
    fields = Fields(message or {}, known, where)
    preferred = fields.wholes("preferred_batch_size", INT32)
    if any(size < 1 or (most and size > most) for size in preferred):
        raise fields.wrong("preferred_batch_size", "from 1 to max_batch_size")
    ignored += [f"{where}.{name}" for name in own if fields.has(name)]
    inside = f"{where}.default_queue_policy"
    others = ("timeout_action", "allow_timeout_override", "max_queue_size")
    policy = Fields(fields.message("default_queue_policy") or {}, ("default_timeout_microseconds", *others), inside)
    delays = policy.word("timeout_action", ("REJECT", "DELAY")) == "DELAY"
    timeout_us = policy.whole("default_timeout_microseconds", UINT64)
    ignored += [f"{inside}.{name}" for name in others if policy.has(name) and (name != "timeout_action" or delays)]
    delay_us = fields.whole("max_queue_delay_microseconds", UINT64)
    if max(delay_us, timeout_us) > 1 << 53:
        raise fields.wrong("max_queue_delay_microseconds", "shorter than centuries")
    return preferred, delay_us, 0 if delays else timeout_us


def _instances(groups: list[Message], ignored: list[str]) -> int:
    count = 0
    for at, group in enumerate(groups):
        others = ["rate_limiter", "gpus", "secondary_devices", "profile", "passive", "host_policy"]
        fields = Fields(group, ("name", "kind", "count", *others), f"instance_group[{at}]")
        kind = fields.word("kind", KINDS)
        ignored += [f"instance_group[{at}].{name}" for name in others if fields.has(name)]
        if kind == "KIND_GPU":
            ignored.append(f"instance_group[{at}].kind")  # --device decides
        count += max(fields.whole("count", INT32), 1)
    if count > MOST_INSTANCES:
        raise BrokenArtifact(f"instance_group has {count} instances, at most {MOST_INSTANCES} are run")
    return count


def _parameters(rows: list[Message]) -> dict[str, str]:
    found = {}
    for at, row in enumerate(rows):
        fields = Fields(row, ("key", "value"), f"parameters[{at}]")
        value = Fields(fields.message("value") or {}, ("string_value",), f"parameters[{at}].value")
        found[fields.text("key")] = value.text("string_value")
    return found


def _threads(parameters: dict[str, str], ignored: list[str]) -> int:
    ignored += [f"parameters[{name!r}]" for name in parameters if name != THREADS]
    text = parameters.get(THREADS, "0")
    if not text.isdecimal() or int(text[:9]) > 1024:
        raise BrokenArtifact(f"parameters[{THREADS!r}] must be a whole number from 0 to 1024")
    return int(text)


def _file_name(name: str, where: str) -> str:
    """A name without folders. Raises BrokenArtifact for any other."""
    if name and (PurePosixPath(name).name != name or name == ".." or "\0" in name):
        raise BrokenArtifact(f"{where} must be the name of a file, without folders")
    return name
