"""Users' scripts (``inference.py``): finding, importing and calling them, in threads or in worker processes.

A script takes and returns whole bodies, not tensors. Its backend session therefore runs batches of calls: an array of
:class:`~server.scripts.call.Call` in, an array of :class:`~server.scripts.call.ScriptResponse` out. The scheduler
treats that session like any other.
"""
