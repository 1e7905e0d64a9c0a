"""The multi-model server's context: the server's own class."""

from server.scripts.context import Context, RequestProcessor

__all__ = ["Context", "RequestProcessor"]
