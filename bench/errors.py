"""What makes a command of ``bench`` impossible, in one line that says what to do."""

from __future__ import annotations


class Unusable(Exception):
    """A wrong argument, a file that cannot be read, a server that cannot be reached.

    ``str(error)`` is the one line that the user sees; the command line exits with 2.
    """
