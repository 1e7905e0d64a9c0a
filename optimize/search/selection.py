"""The selection: which rows of the tables a search tries, on this target and processor, and by the user's names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatch
from importlib.util import find_spec

from ..errors import BadInput
from ..passes import PASSES
from ..target import Target
from .candidates import CANDIDATES, Candidate, Option
from .gpu_candidates import GPU_CANDIDATES

EVERY = (*CANDIDATES, *GPU_CANDIDATES)

ON_THE_CPU = Target()


def select(
    names: Sequence[str],
    flags: Sequence[str],
    table: Sequence[Candidate] = EVERY,
    extra: Sequence[Candidate] = (),
    target: Target = ON_THE_CPU,
) -> tuple[Candidate, ...]:
    """The candidates of ``target`` to try: those that ``names`` match (``static_*``), or without names all that are not
    opt-in and can run on a processor with these ``flags``. ``extra`` rows come from other options: names may select
    among them, and when no name does, all of them are tried.

    Raises BadInput for a name that matches nothing.
    """
    here = [row for row in table if runs_on(row, target)]
    usable = tuple(row for row in extra if runs_on(row, target) and _possible(row, flags))
    if not names:
        return (*(row for row in here if not row.opt_in and _possible(row, flags)), *usable)
    every = (*here, *usable)
    for name in names:
        if not any(fnmatch(row.name, name) for row in every):
            known = ", ".join(row.name for row in every)
            elsewhere = next((row for row in (*table, *extra) if fnmatch(row.name, name)), None)
            where = f"; {elsewhere.name} is {_whereabouts(elsewhere)}" if elsewhere else ""
            raise BadInput(f"--candidates {name!r} matches none of {known}{where}")
    named = tuple(row for row in every if any(fnmatch(row.name, name) for name in names))
    return named if {row.name for row in named} & {row.name for row in extra} else (*named, *usable)


def completed(rows: Sequence[Candidate], given: Mapping[str, Option]) -> tuple[Candidate, ...]:
    """The rows with those options of ``given`` that one of their passes reads: what only this search and host know."""
    done = []
    for row in rows:
        read = frozenset().union(*(PASSES[name].options for name in row.recipe))
        done.append(replace(row, options={**row.options, **{key: given[key] for key in given if key in read}}))
    return tuple(done)


def runs_on(row: Candidate, target: Target) -> bool:
    """Whether the row is for this target and its GPU, if it has one."""
    return row.target in target.kinds and row.least_sm <= target.sm


def _whereabouts(row: Candidate) -> str:
    return f"for --target {row.target}" + (f" with SM {row.least_sm / 10:.1f} or later" if row.least_sm else "")


def _possible(row: Candidate, flags: Sequence[str]) -> bool:
    installed = not row.package or find_spec(row.package) is not None
    return installed and (not row.flags or bool(set(row.flags) & set(flags)))
