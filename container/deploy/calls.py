"""A call of a service: its operation and parameters, as an ``aws`` command and as JSON."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .model_source import ModelFile

DIGEST_CHARACTERS = 10
CLI_NAMES = {"s3": "s3api"}
"""Services whose name in the aws command is not that of boto3."""
LOCAL = "local"
"""The service of calls that the local engine carries out itself."""
BODY = "model.tar.gz"
"""What stands in a plan for the content of an upload."""


@dataclass(frozen=True, slots=True)
class Call:
    """``service`` and ``operation`` are botocore's names. ``upload``: the model whose archive is the Body.

    ``line``: the call as a command line, where the aws command does not make it.
    """

    service: str
    operation: str
    parameters: Mapping[str, Any]
    upload: ModelFile | None = field(default=None, compare=False)
    line: str = field(default="", compare=False)

    def to_json(self) -> dict[str, Any]:
        return {"service": self.service, "operation": self.operation, "parameters": dict(self.parameters)}

    def command(self) -> str:
        """The same call as a command line for a POSIX shell; of the local engine as a comment, for it has none."""
        if self.line:
            return self.line
        if self.service == LOCAL:
            return f"# {self.operation} {json.dumps(dict(self.parameters), ensure_ascii=False)}"
        words = ["aws", CLI_NAMES.get(self.service, self.service), _hyphens(self.operation)]
        for name, value in self.parameters.items():
            words += _option(name, value)
        line = " ".join(words)
        if self.upload is not None and self.upload.path.is_dir():
            return f"{line}  # the archive of {self.upload.path}: python -m optimize package"
        return line


def digest_of(content: Any) -> str:
    """A short digest of a JSON value, independent of the order of its keys."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_CHARACTERS]


def _option(name: str, value: Any) -> list[str]:
    flag = "--" + _hyphens(name)
    if isinstance(value, bool):
        return [flag if value else "--no-" + flag[2:]]
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return [flag, shlex.quote(text)]


def _hyphens(name: str) -> str:
    """CreateEndpointConfig as create-endpoint-config, RoleARN as role-arn, ListObjectsV2 as list-objects-v2."""
    split = re.sub(r"(.)([A-Z][a-z]+)", r"\1-\2", name)
    return re.sub(r"([a-z0-9])([A-Z])", r"\1-\2", split).lower()
