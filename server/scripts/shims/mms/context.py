"""The multi-model server's context: ours."""

from server.scripts.context import Context, RequestProcessor

__all__ = ["Context", "RequestProcessor"]
