"""The composition root: the one place that knows all parts of the server and connects them."""

from .start import launch, launch_replica

__all__ = ["launch", "launch_replica"]
