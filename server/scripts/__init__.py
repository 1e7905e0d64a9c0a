"""Users' own code: finding it, importing it privately, calling it, and surviving whatever it does.

A script takes and gives whole bodies, not tensors. So its session is one whose batches hold calls: an array of
:class:`~server.scripts.call.Call` in, an array of :class:`~server.scripts.call.Answer` out, scheduled like any other.
"""
