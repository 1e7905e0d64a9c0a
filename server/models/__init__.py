"""The models: artifacts on disk, versions in memory, and which of them answers."""

from .registry import LoadOptions, Models
from .served import ServedModel

__all__ = ["LoadOptions", "Models", "ServedModel"]
