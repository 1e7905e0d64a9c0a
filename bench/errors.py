"""The error that ends a command of ``bench``, as one line that says how to fix it."""

from __future__ import annotations


class Unusable(Exception):
    """A wrong argument, a file that cannot be read, a server that cannot be reached.

    ``str(error)`` is the line on standard error; the command exits with 2.
    """
