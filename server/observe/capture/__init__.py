"""Data capture: requests and responses as lines of JSON in files, written by a process beside the server.

The event loop only appends to a queue (``feed``). Everything else runs in the child process: encoding (``record``),
redaction (``redaction``), files (``files``) and uploads (``upload``).
"""
