"""The declaration of a model: what another server's files say about how it is served, in this server's units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .tensors import DType


@dataclass(frozen=True, slots=True)
class DeclaredTensor:
    """One input or output as clients see it. ``shape`` has no batch axis where the declaration has a batch size.

    ``inner``: the shape that the model itself takes or gives, where the two differ; None: the same.
    """

    name: str
    dtype: DType
    shape: tuple[int, ...]
    inner: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Handler:
    """The handler of a model archive. ``attribute`` names the class or function in its module; empty: found there.

    ``requirements``: file name of its requirements beside it, empty for none. ``batch_size``: most calls of one run, 0
    where the archive does not say.
    """

    attribute: str = ""
    requirements: str = ""
    batch_size: int = 0


@dataclass(frozen=True, slots=True)
class Declaration:
    """What a file says. None, 0 and empty values: nothing. ``file``: its name, for log lines and errors.

    ``max_batch_size``: 0 for a model without a batch axis. ``batch_sizes``: preferred ones. ``queue_timeout_us``: the
    predicted wait above which requests are refused. ``ignored``: fields that are not honoured and change no answer.
    """

    file: str = ""
    max_batch_size: int | None = None
    batch_sizes: tuple[int, ...] = ()
    instances: int = 0
    threads: int = 0
    max_queue_delay_us: int = 0
    queue_timeout_us: int = 0
    inputs: tuple[DeclaredTensor, ...] = ()
    outputs: tuple[DeclaredTensor, ...] = ()
    parameters: Mapping[str, str] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    handler: Handler | None = None


NOTHING = Declaration()
"""The declaration of a model that has no such file."""
