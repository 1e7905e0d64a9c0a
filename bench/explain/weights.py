"""Weights: how long a run needs to read the files of its model from memory."""

from __future__ import annotations

from .evidence import in_bytes
from .observations import Observations


def of_weights(observed: Observations) -> list[str]:
    """Reading the model's files once per run, against the memory bandwidth of this machine.

    Empty if the server does not report the size of its files. The text marks inferred figures: it is not known that a
    run reads all weights, nor that it reads them as fast as a copy does.
    """
    works = observed.timeline.works if observed.timeline is not None else ()
    sized = [one for one in works if one.file_bytes]
    if not sized:
        return []
    # The files of a pipeline are counted once, with the step that computed most. An idle model is no candidate.
    main = max(sized, key=lambda one: (one.busy or 0.0, one.runs))
    size = main.file_bytes or 0.0
    if observed.memory is None:
        return [f"the files of model {main.model} have {in_bytes(size)}; the memory bandwidth there was not measured"]
    bandwidth = observed.memory.bytes_per_s
    reading_ms = size / bandwidth * 1e3
    found = []
    costs = main.usual_costs()
    text = f"memory here moves {in_bytes(bandwidth)}/s (measured, a copy on all cores), the files have {in_bytes(size)}"
    if costs:
        share = reading_ms / costs[0].ms
        rows = f"{costs[0].rows} row{'s' if costs[0].rows > 1 else ''}"
        text = f"{text}: reading them takes {reading_ms:.3f} ms (inferred), {_of_a_run(share)} of {rows}"
        found.append(text)
    runs_per_s = main.runs / main.seconds
    moved = size * runs_per_s
    use = moved / bandwidth
    text = f"{runs_per_s:,.1f} runs/s, if each reads all files, read {in_bytes(moved)}/s (inferred)"
    found.append(f"{text}, {use:.0%} of the memory bandwidth")
    cache = observed.memory.cache_bytes
    if cache:
        fits = "so they may stay in it" if size < cache else "so they do not fit"
        found.append(f"the last-level cache of this machine has {in_bytes(cache)}, {fits}")
    return found


def _of_a_run(share: float) -> str:
    """Runs that are shorter than one reading do not read everything from memory."""
    return f"{share:.0%} of a run" if share <= 1 else "more than a run"
