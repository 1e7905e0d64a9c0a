"""File descriptors: how many connections the limit on open files allows."""

from __future__ import annotations

import logging
import resource

RESERVED = 128
"""Descriptors for models, logs, worker processes and the listening socket."""

log = logging.getLogger("slipway.system")


def connections_allowed(wanted: int) -> int:
    """``wanted`` connections, or as many as the limit on open files allows."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or wanted <= soft - RESERVED:
        return wanted
    allowed = max(soft - RESERVED, soft // 2, 1)
    log.info("setting lowered setting=max_connections to=%d open_files=%d; raise ulimit -n for more", allowed, soft)
    return min(allowed, wanted)
