"""Weights: whether reading them from memory, once for each run, is what a run waits for."""

from __future__ import annotations

from .evidence import Evidence, Seen, in_bytes


def of_weights(seen: Seen) -> list[Evidence]:
    """Nothing where the server does not tell how large its files are. What is inferred is called so: it is not known
    that a run reads all of them, nor that it reads them as fast as a copy does."""
    works = seen.host.works if seen.host is not None else ()
    told = [one for one in works if one.file_bytes]
    if not told:
        return []
    # A pipeline's files are counted once, with the step that computed most; an idle model has not run at all.
    main = max(told, key=lambda one: (one.busy or 0.0, one.runs))
    size = main.file_bytes or 0.0
    if seen.memory is None:
        where = "how fast memory is there was not measured"
        return [Evidence(f"the files of model {main.model} hold {in_bytes(size)}; {where}", "file_bytes", size)]
    fastest, reading_ms = seen.memory.bytes_per_s, size / seen.memory.bytes_per_s * 1e3
    found = []
    costs = main.usual_costs()
    text = f"memory here moves {in_bytes(fastest)}/s (measured, a copy on all cores), the files hold {in_bytes(size)}"
    if costs:
        share = reading_ms / costs[0].ms
        rows = f"{costs[0].rows} row{'s' if costs[0].rows > 1 else ''}"
        text = f"{text}: reading them takes {reading_ms:.3f} ms (inferred), {share:.0%} of a run of {rows}"
        found.append(Evidence(text, "weights_share", share))
    moved = size * main.runs / main.seconds
    use = moved / fastest
    text = f"{main.runs / main.seconds:,.1f} runs/s, if each reads them all, read {in_bytes(moved)}/s (inferred)"
    found.append(Evidence(f"{text}, {use:.0%} of what memory moves", "weights_use", use))
    cache = seen.memory.cache_bytes
    if cache:
        fits = "so they may stay in it" if size < cache else "so they do not fit"
        text = f"the last-level cache of this machine has {in_bytes(cache)}, {fits}"
        found.append(Evidence(text, "weights_over_cache", size / cache))
    return found
