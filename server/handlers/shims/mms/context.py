"""The multi-model server's context: ours."""

from server.handlers.context import Context, RequestProcessor

__all__ = ["Context", "RequestProcessor"]
