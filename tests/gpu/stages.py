"""The stages of the GPU test, in order: what each one runs, how long it may take, and what it needs.

A stage that is cut off by the budget costs the least when it stands last, so the order is the order of value.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .record import Record


@dataclass(frozen=True, slots=True)
class Place:
    """Where a stage runs. ``work`` is shared by the stages of a run. ``device``: cuda, fake or cpu.

    ``fake`` is the real provider over a runtime that computes nothing; ``cpu`` rehearses the stage without a GPU.
    """

    device: str
    work: Path

    @property
    def on_gpu(self) -> bool:
        return self.device != "cpu"

    @property
    def computes(self) -> bool:
        return self.device != "fake"


@dataclass(frozen=True, slots=True)
class Stage:
    """``run``: ``module:function`` with (Place, Record). ``limit_s``: after it the child is killed.

    ``needs``: stages whose files it reads. ``optional``: not having run does not spoil the verdict.
    """

    name: str
    run: str
    limit_s: float
    needs: tuple[str, ...] = ()
    optional: bool = False


STAGES = (
    Stage("versions", "tests.gpu.versions:versions", 75),  # the doctor reads cold libraries of more than a gigabyte
    Stage("provider", "tests.gpu.provider:provider", 60),
    Stage("digits", "tests.gpu.digits:digits", 60),
    Stage("networks", "tests.gpu.networks:export", 120),
    Stage("refused", "tests.gpu.served:refused", 60, ("networks",)),
    Stage("optimized", "tests.gpu.digits:optimized", 120, ("digits",)),
    Stage("twins", "tests.gpu.networks:twins", 60, ("networks",)),
    Stage("served", "tests.gpu.served:served", 150, ("networks",)),
    Stage("rates", "tests.gpu.rates:rates", 100, ("networks",)),
    Stage("memory", "tests.gpu.served:memory", 45, ("networks",)),
    Stage("lost", "tests.gpu.served:lost", 45, ("networks",)),
    Stage("peaks", "tests.gpu.rates:peaks", 30),
    Stage("inductor", "tests.gpu.rates:inductor", 120, ("networks",)),
    Stage("search", "tests.gpu.rates:search", 60, ("networks",)),
    Stage("memory_error", "tests.gpu.faults:out_of_memory", 45),
    Stage("lost_device", "tests.gpu.faults:lost_device", 45),
    Stage("tensorrt", "tests.gpu.digits:tensorrt", 120, ("digits",), optional=True),
)


def chosen(only: str, skip: str) -> list[Stage]:
    """The stages of comma-separated names, in their order. Raises ValueError for an unknown name."""
    names = {stage.name for stage in STAGES}
    wanted, unwanted = ({one for one in text.split(",") if one} for text in (only, skip))
    unknown = (wanted | unwanted) - names
    if unknown:
        raise ValueError(
            f"no stage {', '.join(sorted(unknown))}; there are {', '.join(stage.name for stage in STAGES)}"
        )
    return [stage for stage in STAGES if (not wanted or stage.name in wanted) and stage.name not in unwanted]


def run(what: str, place: Place, path: Path) -> None:
    """Run ``module:function`` in this process and write its record to ``path``."""
    import importlib

    from .record import NotRun

    record = Record(path, place.computes)
    module, _, function = what.partition(":")
    try:
        getattr(importlib.import_module(module), function)(place, record)
    except NotRun as reason:
        record.not_run(str(reason))
    record.end()
