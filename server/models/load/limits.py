"""The limits: settings turned into what schedulers take, each unit converted once.

``batching_for`` and ``inline_within`` decide how a model runs; ``SchedulingLimits`` bounds how long requests wait.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from ...artifact import USUAL_BATCH_SIZES, Batching, Manifest
from ...declaration import NOTHING, Declaration
from ...request import NEVER
from ...settings.options import Settings
from ...system.cores import available_cores
from ...target import CPU
from ...tensors import ModelSpec
from .placement import device_of, ordinals_of
from .warmup import Seeds

log = logging.getLogger("slipway.models")

GPU_INSTANCES = 2
"""Instances of a model on each GPU unless told: one copies while the other one computes."""

INLINE_LIMIT = 5
"""A batch on the event loop may take this many times ``inline_below_us``, so that it never delays /ping for long."""

USUAL_QUEUE_NS = 1_000_000_000
"""The longest predicted wait where ``max_queue_ms`` is not set and runs are short."""

LONGEST_RUNS = 2
"""Without a setting a request may wait for this many of the model's longest runs, however long these take."""

FURTHER_SIZES, LARGEST_DECLARED = (64, 128), 128
"""Batch sizes above the usual ones of a model without a manifest, where its declaration has a larger batch."""

TIMEOUT_SHARE = 0.5
"""Without a setting a request to a script may wait for this share of the longest run that the script is allowed."""


@dataclass(frozen=True, slots=True)
class SchedulingLimits:
    """The bounds of one server: times in nanoseconds, sizes in bytes. ``max_queue_ns`` is 0 where it is not set."""

    max_queue_ns: int
    max_queue_bytes: int
    max_rows: int
    max_queue_delay_ns: int
    deadline_ns: int
    stall_ns: int
    inline_below_ns: int
    tune_ns: int
    cache_bytes: int
    script_timeout_ns: int
    script_worker_bytes: int

    @classmethod
    def of(cls, settings: Settings) -> SchedulingLimits:
        return cls(
            max_queue_ns=int(settings.max_queue_ms * 1e6),
            max_queue_bytes=int(settings.max_queue_mb * 1e6),
            max_rows=settings.max_rows,
            max_queue_delay_ns=settings.max_queue_delay_us * 1_000,
            deadline_ns=int(settings.deadline_ms * 1e6),
            stall_ns=int(settings.stall_s * 1e9) or NEVER,
            inline_below_ns=settings.inline_below_us * 1_000,
            tune_ns=int(settings.tune_ms * 1e6),
            cache_bytes=int(settings.cache_mb * 1e6),
            script_timeout_ns=int(settings.script_timeout_s * 1e9),
            script_worker_bytes=int(settings.script_worker_mb * 1e6),
        )

    def delay_ns(self, declaration: Declaration) -> int:
        """How long a batch may wait for more rows: the setting, else what is declared."""
        return self.max_queue_delay_ns or declaration.max_queue_delay_us * 1_000

    def tensor_queue_ns(self, name: str, longest_run_ns: float, declared_us: int = 0) -> int:
        """The predicted wait at which a model whose longest run takes ``longest_run_ns`` refuses requests.

        A setting or a declaration is taken as it is. Without one, a full batch that runs must not make the server
        refuse the next.
        """
        if declared_us and not self.max_queue_ns:
            return declared_us * 1_000
        return self._queue_ns(name, int(LONGEST_RUNS * longest_run_ns), f"{LONGEST_RUNS} of its longest runs")

    def script_queue_ns(self, name: str) -> int:
        """The predicted wait at which a script refuses requests: the setting, or a share of the script's time limit."""
        automatic_ns = int(TIMEOUT_SHARE * self.script_timeout_ns)
        return self._queue_ns(name, automatic_ns, "half of --script-timeout-s")

    def _queue_ns(self, name: str, needed_ns: int, reason: str) -> int:
        if self.max_queue_ns:
            return self.max_queue_ns
        if needed_ns > USUAL_QUEUE_NS:
            log.info("max_queue_ms raised model=%s max_queue_ms=%.0f reason=%s", name, needed_ns / 1e6, repr(reason))
        return max(USUAL_QUEUE_NS, needed_ns)


def batching_for(manifest: Manifest, settings: Settings, declaration: Declaration = NOTHING) -> Batching:
    """Batch sizes, instances and threads of a model: settings over what is declared over what fits this machine.

    On a GPU cores do not count: a model has two instances, so that one copies while the other one computes.
    """
    declared = manifest.batching or _declared(declaration)
    if device_of(manifest, settings) != CPU:
        least = GPU_INSTANCES * len(ordinals_of(settings))
        instances, threads = settings.instances or max(declared.instances, least), settings.threads or 1
    else:
        instances = settings.instances or max(declared.instances // settings.processes, 1)
        fitting = max(available_cores(processes=settings.processes) // instances, 1)
        bounded = manifest.batching is not None or declaration.threads > 0
        threads = settings.threads or (min(declared.threads, fitting) if bounded else fitting)
    sizes = declared.batch_sizes
    if settings.max_batch_size:
        sizes = (*(size for size in sizes if size < settings.max_batch_size), settings.max_batch_size)
    return Batching(sizes, instances, threads)


def _declared(declaration: Declaration) -> Batching:
    """The batching of a model without a manifest. Sizes double up to the declared largest one."""
    most = min(declaration.max_batch_size or max(USUAL_BATCH_SIZES), LARGEST_DECLARED)
    doubled = (*USUAL_BATCH_SIZES, *(size for size in FURTHER_SIZES if size < most))
    sizes = {size for size in (*doubled, *declaration.batch_sizes) if size <= most} | {most}
    return Batching(tuple(sorted(sizes)), declaration.instances or 1, declaration.threads or 1)


def bounded(spec: ModelSpec, independent: bool) -> bool:
    """Whether the measured cost of a batch size holds for every request.

    It does not for texts and images, for axes of any size besides that of the rows, and where a request is never cut.
    """
    fixed = all(one.dtype.itemsize and -1 not in one.shape[1:] for one in spec.inputs)
    return fixed and (independent or all(-1 not in one.shape[:1] for one in spec.inputs))


def inline_within(seeds: Seeds, max_batch_size: int, instances: int, inline_below_ns: int) -> tuple[bool, int]:
    """Whether the model runs on the event loop, and the largest batch size if it does.

    ``instances`` is the setting, 0 for none; several that are set are given. The manifest's do not count for so small a
    model: without a server around it two instances win; behind a server the hop to a thread costs more than the run.
    """
    if instances > 1 or seeds[0][1] > inline_below_ns:
        return False, max_batch_size
    fitting = [size for size, ns in seeds if ns <= INLINE_LIMIT * inline_below_ns]
    return True, min(max(fitting, default=1), max_batch_size)
