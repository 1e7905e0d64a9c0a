"""The context of the multi-model server, under TorchServe's name."""

from server.scripts.context import Context

__all__ = ["Context"]
