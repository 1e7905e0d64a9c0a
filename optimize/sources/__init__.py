"""The sources: what kinds of trained model can be read. One file each; every one gives a ReferenceModel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class ReferenceModel:
    """A trained model as its authors run it: what every later form is compared with.

    ``module`` is in evaluation mode and on the CPU, takes ``inputs`` by keyword and returns ``outputs`` in that order
    (as one tensor, a tuple or a mapping). ``digests`` are SHA-256 by what they cover, for the manifest.
    """

    reference: str
    module: torch.nn.Module
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    digests: Mapping[str, str]
