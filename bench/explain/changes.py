"""Changes of a server or of its load: what a forecast is asked for, and what a verification tries."""

from __future__ import annotations

import dataclasses
import difflib
import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

SETTINGS = {
    "instances": int,
    "threads": int,
    "max_batch_size": int,
    "max_queue_delay_us": int,
    "max_queue_ms": float,
}
"""Settings of the server that can be simulated, with their type."""


@dataclass(frozen=True, slots=True)
class Change:
    """One or several changes at once. None: as it was.

    ``rate``: times the rate of arrivals. ``compute``: times the time of a run. ``extra_us``: more
    in each run. ``cache``: the share of the requests
    that a cache answers. ``binary``: bodies with binary tensors instead of JSON. ``candidate``: the other candidate of
    the artifact that ``compute`` stands for. The other fields are settings of the server.
    """

    rate: float = 1.0
    compute: float = 1.0
    extra_us: int = 0
    cache: float = 0.0
    binary: bool = False
    candidate: str = ""
    instances: int | None = None
    threads: int | None = None
    max_batch_size: int | None = None
    max_queue_delay_us: int | None = None
    max_queue_ms: float | None = None

    @property
    def words(self) -> str:
        """The change as a user would type it."""
        found = [f"{name}={getattr(self, name):g}" for name in SETTINGS if getattr(self, name) is not None]
        if self.rate != 1.0:
            found.append(f"rate x{self.rate:g}")
        if self.candidate:
            found.append(f"{self.candidate} (compute x{self.compute:.3g})")
        elif self.compute != 1.0:
            found.append(f"compute x{self.compute:g}")
        if self.extra_us:
            found.append(f"{self.extra_us} us more in each run")
        if self.binary:
            found.append("binary bodies")
        if self.cache:
            found.append(f"cache {self.cache:.0%}")
        return ", ".join(found) or "no change"

    def joined(self, other: Change) -> Change:
        """This change and another one at once; factors multiply."""
        given = {name: getattr(other, name) for name in SETTINGS if getattr(other, name) is not None}
        return replace(
            self,
            rate=self.rate * other.rate,
            compute=self.compute * other.compute,
            extra_us=self.extra_us + other.extra_us,
            cache=self.cache or other.cache,
            binary=self.binary or other.binary,
            **given,
        )

    def flags(self, artifact: Path | None = None) -> tuple[str, ...]:
        """The flags of ``bench whatif`` that describe the change. ``artifact``: the folder of ``candidate``."""
        folder = shlex.quote(str(artifact)) if artifact is not None else "FOLDER"
        found = [f"--set {name}={getattr(self, name):g}" for name in SETTINGS if getattr(self, name) is not None]
        found += [f"--rate x{self.rate:g}"] if self.rate != 1.0 else []
        found += [f"--candidate {self.candidate.partition(' ')[0]} --artifact {folder}"] if self.candidate else []
        found += [f"--compute x{self.compute:g}"] if self.compute != 1.0 and not self.candidate else []
        found += [f"--extra-us {self.extra_us}"] if self.extra_us else []
        found += ["--payload binary"] if self.binary else []
        return tuple(found + ([f"--cache {self.cache:g}"] if self.cache else []))

    @property
    def kind(self) -> str:
        """The field that is changed; ``several`` for more than one."""
        fields = [one.name for one in dataclasses.fields(self) if one.name != "candidate"]
        changed = [name for name in fields if getattr(self, name) != getattr(UNCHANGED, name)]
        return changed[0] if len(changed) == 1 else "several"


UNCHANGED = Change()


def parse(
    settings: Sequence[str],
    *,
    rate: str | None = None,
    compute: str | None = None,
    extra_us: int = 0,
    cache: float | None = None,
    binary: bool = False,
) -> Change:
    """The change that flags describe. ``settings``: ``NAME=VALUE``. Raises ValueError, saying what to write."""
    given: dict[str, Any] = {}
    for text in settings:
        name, equals, value = text.partition("=")
        name = name.strip().replace("-", "_")
        if name not in SETTINGS:
            near = difflib.get_close_matches(name, SETTINGS, n=1)
            hint = f"the nearest is {near[0]}" if near else f"there are {', '.join(SETTINGS)}"
            raise ValueError(f"the setting {name!r} cannot be forecast; {hint}")
        try:
            number = SETTINGS[name](value)
        except ValueError:
            number = -1
        if not math.isfinite(number):
            number = -1
        if not equals or number < (1 if name in ("instances", "threads", "max_batch_size") else 0):
            raise ValueError(f"cannot read --set {text!r}: write for example --set {name}=2")
        given[name] = number
    if cache is not None and not 0 < cache < 1:
        raise ValueError("--cache is the share of requests that a cache answers: write for example --cache 0.3")
    return Change(
        rate=factor(rate, "--rate"),
        compute=factor(compute, "--compute"),
        extra_us=extra_us,
        cache=cache or 0.0,
        binary=binary,
        **given,
    )


def factor(text: str | None, flag: str) -> float:
    """``x2`` as 2.0. Raises ValueError."""
    try:
        number = float((text or "x1").removeprefix("x"))
    except ValueError:
        number = 0.0
    if not 0 < number < 1e3:
        raise ValueError(f"cannot read {flag} {text!r}: write a factor such as x2 or x0.5")
    return number
