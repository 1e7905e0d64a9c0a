"""Models: artifacts on disk, versions in memory, and the version that answers."""

from .registry import LoadOptions, Models
from .served import ServedModel

__all__ = ["LoadOptions", "Models", "ServedModel"]
