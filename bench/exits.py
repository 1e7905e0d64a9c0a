"""Exit statuses of every command."""

from __future__ import annotations

OK = 0
INVALID = 1
"""A measured result that fails: an invalid run, too many errors, a missed objective, a failed gate."""
UNUSABLE = 2
INTERRUPTED = 130
