"""Releases: labels, promotion, rollback, canary and shadow, each with its reason."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from ..errors import MalformedInput, UnknownModel
from .probation import Probation
from .served import ServedModel
from .traffic import Canary, Rules, Shadow
from .versions import Switch, Versions

log = logging.getLogger("slipway.releases")

REVIEW_S = 1.0
"""How often a canary with rules is judged."""

NO_RULES = Rules()


class Releases:
    """Changes the version that answers; every change is one call and takes effect between two requests."""

    def __init__(
        self,
        find: Callable[[str], Versions],
        publish: Callable[[Versions], None],
        now_s: Callable[[], float] = time.time,
        *,
        probation_s: float = 0.0,
        rules: Rules = NO_RULES,
        clock: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        """``probation_s``: how long a version that took over is on probation, by ``rules`` if its canary had none."""
        self._find = find
        self._publish = publish
        self._now_s = now_s
        self._probation_s = probation_s
        self._rules = rules
        self._clock = clock
        self._compared: dict[str, Canary | Shadow] = {}
        self._probations: dict[str, Probation] = {}
        self._timer: asyncio.TimerHandle | None = None
        self.on_verdict: Callable[[str, str], None] = self.conclude
        """Called with a name and why its canary, or its version on probation, breaks its rules."""

    def comparison(self, name: str) -> Canary | Shadow | None:
        """The comparison that runs under a name; None where there is none."""
        return self._compared.get(name)

    def label(self, name: str, label: str, version: str) -> None:
        """Point a label at a version. Raises UnknownModel, or MalformedInput when the label names a version."""
        versions = self._find(name)
        versions.label(label, version)
        self._publish(versions)

    def unlabel(self, name: str, label: str) -> None:
        """Remove a label. Raises UnknownModel when there is no such label."""
        versions = self._find(name)
        if versions.labels.pop(label, None) is None:
            raise UnknownModel(f"model {name!r} has no label {label!r}")
        self._publish(versions)

    def promote(self, name: str, version: str, reason: str = "promoted") -> None:
        """Answer with this version from now on, even if a higher one is loaded. Ends a comparison.

        Raises UnknownModel.
        """
        versions = self._find(name)
        target = versions.find(version)
        before = versions.current()
        comparison = self._stop(name)
        if before is not None and before is not target:
            versions.previous = before.version
        versions.chosen = target.version
        self._note(versions, target.version, reason)
        self._publish(versions)
        if before is not None and before.model is not None and target.model is not None:
            self.took_over(name, target.model, before.model, comparison)

    def took_over(
        self, name: str, model: ServedModel, before: ServedModel, comparison: Canary | Shadow | None = None
    ) -> None:
        """Put a version that took over on probation, by the rules and figures of ``comparison`` if it was between these
        two."""
        self.end_probation(name)
        if not self._probation_s or model is before:
            return
        rules, remembered = self._rules, None
        if isinstance(comparison, Canary) and (comparison.candidate.model, comparison.stable.model) == (model, before):
            rules = comparison.rules if comparison.judged else rules
            remembered = comparison.stable.figures() if comparison.stable.answers else None
        if not (rules.error_rate or rules.latency):
            return
        probation = Probation(model, before, rules, self._probation_s, remembered, self._clock)
        probation.attach()
        self._probations[name] = probation
        self._arm()

    def probation(self, name: str) -> Probation | None:
        """The probation of the version that took over a name; None where there is none."""
        return self._probations.get(name)

    def roll_back(self, name: str, reason: str = "rolled back by a call") -> None:
        """End a comparison if there is one, else answer with the version from before the last promotion.

        Raises MalformedInput without an earlier promotion, UnknownModel when that version is not loaded.
        """
        versions = self._find(name)
        if name in self._compared:
            self.end(name, reason)
            return
        if versions.previous is None:
            raise MalformedInput(f"model {name!r} cannot be rolled back: no version was promoted over another one")
        target = versions.find(versions.previous)
        before = versions.current()
        self.end_probation(name)
        versions.chosen, versions.previous = target.version, before.version if before is not None else None
        self._note(versions, target.version, reason)
        self._publish(versions)

    def canary(self, name: str, version: str, percent: float, rules: Rules = NO_RULES) -> None:
        """Send a part of the requests that name no version to another one. Raises UnknownModel or MalformedInput."""
        stable, candidate = self._pair(name, version)
        comparison = Canary(stable, candidate, percent, rules, self._clock)
        self._start(name, comparison)
        if comparison.judged:
            self._arm()

    def shadow(self, name: str, version: str, percent: float = 100.0) -> None:
        """Copy a part of the requests to another version. Raises UnknownModel or MalformedInput."""
        stable, shadow = self._pair(name, version)
        self._start(name, Shadow(stable, shadow, percent))

    def end(self, name: str, reason: str) -> None:
        """End a comparison: the stable version answers alone again. Raises MalformedInput without a comparison."""
        versions = self._find(name)
        comparison = self._stop(name)
        if comparison is None:
            raise MalformedInput(f"no two versions of model {name!r} are being compared")
        self._note(versions, comparison.stable.model.version, reason)

    def part(self, versions: Versions, model: ServedModel, reason: str) -> None:
        """A model leaves: whatever comparison it is in is over."""
        comparison = self._compared.get(versions.name)
        if comparison is not None and model in _models(comparison):
            self.end(versions.name, reason)
        probation = self._probations.get(versions.name)
        if probation is not None and model is probation.model:
            self.end_probation(versions.name)
        elif probation is not None and model is probation.before:
            probation.before = None

    def pointed_at(self, versions: Versions) -> set[str]:
        """The versions that somebody has chosen, labelled or compared: they are not retired."""
        comparison = self._compared.get(versions.name)
        compared = [model.version for model in _models(comparison)] if comparison is not None else []
        return {*versions.labels.values(), *([versions.chosen] if versions.chosen else []), *compared}

    def review(self) -> None:
        """Judge every canary and every version on probation, and roll back those whose rules are broken."""
        for name, comparison in list(self._compared.items()):
            verdict = comparison.verdict() if isinstance(comparison, Canary) else None
            if verdict is not None:
                self.on_verdict(name, verdict)
        for name, probation in list(self._probations.items()):
            verdict = probation.verdict()
            if verdict is not None:
                self.on_verdict(name, verdict)
            elif probation.over:
                self.end_probation(name)

    def conclude(self, name: str, verdict: str) -> None:
        """Roll back what is judged under a name; nothing happens if nothing is."""
        probation = self._probations.get(name)
        if isinstance(self._compared.get(name), Canary):
            self.end(name, f"rolled back by its rules: {verdict}")
        elif probation is not None:
            self.end_probation(name)
            self._roll_back_worse(self._find(name), probation, verdict)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _roll_back_worse(self, versions: Versions, probation: Probation, verdict: str) -> None:
        """Roll back to the version before; where that is not in memory any more, only log the verdict."""
        current = versions.current()
        if current is None or current.model is not probation.model:
            return
        before = probation.before
        target = next((one for one in versions.ready() if one.model is before), None)
        if target is None:
            reason = (
                f"kept, though worse than version {probation.before_version}, which is not loaded any more: {verdict}"
            )
            log.warning("rollback impossible model=%s version=%s reason=%r", versions.name, current.version, reason)
            versions.switches.append(Switch(self._now_s(), current.version, reason))
            return
        versions.chosen, versions.previous = target.version, current.version
        self._note(versions, target.version, f"version {current.version} was rolled back on probation: {verdict}")
        self._publish(versions)

    def end_probation(self, name: str) -> None:
        """End a probation."""
        probation = self._probations.pop(name, None)
        if probation is not None:
            probation.detach()

    def _pair(self, name: str, version: str) -> tuple[ServedModel, ServedModel]:
        versions = self._find(name)
        stable, other = versions.current(), versions.find(version)
        if stable is None or stable.model is None or other.model is None:
            raise UnknownModel(f"no version of model {name!r} is ready")
        return stable.model, other.model

    def _start(self, name: str, comparison: Canary | Shadow) -> None:
        self._stop(name)
        self.end_probation(name)  # both would set the watch of the model
        versions = self._find(name)
        versions.chosen = comparison.stable.model.version  # a higher version that is loaded now must not take over
        comparison.attach()
        self._compared[name] = comparison

    def _stop(self, name: str) -> Canary | Shadow | None:
        comparison = self._compared.pop(name, None)
        if comparison is not None:
            comparison.detach()
        return comparison

    def _note(self, versions: Versions, version: str, reason: str) -> None:
        versions.switches.append(Switch(self._now_s(), version, reason))
        log.info("version answers model=%s version=%s reason=%r", versions.name, version, reason)

    def _arm(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(REVIEW_S, self._review)

    def _review(self) -> None:
        self._timer = None
        self.review()
        if self._probations or any(isinstance(one, Canary) and one.judged for one in self._compared.values()):
            self._arm()


def _models(comparison: Canary | Shadow) -> tuple[ServedModel, ServedModel]:
    other = comparison.candidate if isinstance(comparison, Canary) else comparison.shadow
    return comparison.stable.model, other.model
