"""Triton's model configuration as JSON, which its clients send, to the text of a ``config.pbtxt``.

JSON writes every word of an enumeration and every large number as a text, and a map as an object. The text format has
words, numbers, and a message for each entry of a map; so the names of these fields are listed here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ...errors import MalformedInput

WORDS = ("data_type", "format", "kind", "timeout_action")
NUMBERS = (
    *("max_batch_size", "dims", "shape", "count", "gpus", "preferred_batch_size", "max_queue_delay_microseconds"),
    *("default_timeout_microseconds", "max_queue_size", "versions", "num_versions", "priority_levels"),
)
MAPS = ("parameters", "cc_model_filenames", "metric_tags", "inputs", "input_map", "output_map", "priority_queue_policy")
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
NUMBER = re.compile(r"-?[0-9]{1,20}")
DEEPEST = 50


def as_text(config: Mapping[str, Any]) -> str:
    """The text of a config. A field that is null is left out.

    Raises MalformedInput for what no configuration has. Whether the fields are known is for the reader of the text.
    """
    return "\n".join(_fields(config, 0)) + "\n"


def _fields(body: Mapping[str, Any], depth: int) -> Iterator[str]:
    if depth > DEEPEST:
        raise MalformedInput(f"config: objects are more than {DEEPEST} deep")
    for name, value in body.items():
        if NAME.fullmatch(name) is None:
            raise MalformedInput(f"config: {name[:60]!r} is no name of a field")
        if name in MAPS and isinstance(value, dict):
            value = [{"key": key, "value": one} for key, one in value.items()]
        for one in value if isinstance(value, list) else [value]:
            if one is not None:
                yield f"{name}{_value(name, one, depth)}"


def _value(name: str, value: Any, depth: int) -> str:
    if isinstance(value, dict):
        return " { " + " ".join(_fields(value, depth + 1)) + " }"
    if isinstance(value, list):
        raise MalformedInput(f"config: {name[:60]!r} has a list in a list")
    if isinstance(value, str):
        bare = (name in WORDS and NAME.fullmatch(value)) or (name in NUMBERS and NUMBER.fullmatch(value))
        return f": {value}" if bare else f": {json.dumps(value, ensure_ascii=False)}"
    return f": {json.dumps(value)}"
