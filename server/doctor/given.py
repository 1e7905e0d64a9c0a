"""The settings check: settings that are wrong, probably mistyped, contradicted by another one, or without effect."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ..errors import BadSetting
from ..settings.options import FIELDS, PREFIX, Settings, flag, variable
from ..settings.reader import read
from ..settings.sagemaker import NOT_SETTINGS
from .findings import Finding, ok, stop, warn

KILLED_AFTER_S = 30.0
"""SageMaker sends SIGKILL this long after SIGTERM."""

LIKE_A_TYPO = 0.9
"""How similar two names must be to count as a typing error."""


def examine(argv: Sequence[str], environ: Mapping[str, str], root: Path) -> tuple[Settings, list[Finding]]:
    """The settings as far as they can be read, and the findings about them.

    Every wrong variable is named, not only the first one; wrong values are left out of the settings.
    """
    findings = []
    good_flags = list(argv)
    readable = {name: text for name, text in environ.items() if name.startswith((PREFIX, "SAGEMAKER_"))}
    try:
        read(argv, {})
    except BadSetting as error:
        findings.append(stop("settings", str(error)))
        good_flags = []
    for name, text in list(readable.items()):
        try:
            read([], {name: text})
        except BadSetting as error:
            findings.append(stop("settings", str(error)))
            del readable[name]
    settings = read(good_flags, readable)
    findings += [*_mistyped(environ), *_overruled(environ), *_contradictions(settings, root)]
    if not findings:
        changed = [one for one in FIELDS if getattr(settings, one) != FIELDS[one].default]
        shown = ", ".join(f"{one}={getattr(settings, one)}" for one in changed)
        findings.append(ok("settings", shown or "all have their defaults"))
    return settings, findings


def _mistyped(environ: Mapping[str, str]) -> Iterator[Finding]:
    known = {alias.name for one in FIELDS.values() for alias in one.metadata["aliases"]} | NOT_SETTINGS.keys()
    for name in sorted(environ):
        if name.startswith("SAGEMAKER_") and name not in known:
            close = difflib.get_close_matches(name, sorted(known), n=1, cutoff=LIKE_A_TYPO)
            if close:
                yield warn("settings", f"{name} is not a known variable", f"did you mean {close[0]}?")


def _overruled(environ: Mapping[str, str]) -> Iterator[Finding]:
    for name, one in FIELDS.items():
        ours = environ.get(variable(name))
        for alias in one.metadata["aliases"]:
            theirs = environ.get(alias.name)
            if ours and theirs and ours != theirs:
                yield warn(
                    "settings",
                    f"{variable(name)}={ours} wins over {alias.name}={theirs}",
                    "set only one of them; the platform uses the port of its own variable"
                    if name == "port"
                    else "set only one of them",
                )


def _contradictions(settings: Settings, root: Path) -> Iterator[Finding]:
    leave_s = settings.drain_grace_s + settings.drain_timeout_s
    if leave_s > KILLED_AFTER_S:
        yield warn(
            "settings",
            f"stopping may take {leave_s:g} s, SageMaker kills the process after {KILLED_AFTER_S:g} s",
            f"lower {flag('drain_grace_s')} or {flag('drain_timeout_s')}",
        )
    if settings.deadline_ms and settings.max_queue_delay_us >= settings.deadline_ms * 1_000:
        yield warn(
            "settings",
            f"a batch may wait {settings.max_queue_delay_us} us for more rows, but requests expire after "
            f"{settings.deadline_ms:g} ms",
            f"lower {flag('max_queue_delay_us')}",
        )
    if (root / ".dockerenv").exists() and settings.host in ("127.0.0.1", "localhost", "::1"):
        yield warn(
            "settings",
            f"listening on {settings.host} inside a container: clients outside cannot connect",
            f"set {variable('host')}=0.0.0.0",
        )
