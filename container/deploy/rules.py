"""Rules: combinations of settings that an engine refuses, each with one sentence that says what to change."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..local.limits import SERVERLESS_MEMORY_MIB
from .description import Description
from .errors import InvalidDescription

Rule = tuple[Callable[[Description], bool], str]

MODES: tuple[Rule, ...] = (
    (
        lambda d: d.serverless is not None and d.serverless not in SERVERLESS_MEMORY_MIB,
        "--serverless takes 1024 to 6144 MB in steps of 1024",
    ),
    (lambda d: d.serverless is not None and not 1 <= d.max_concurrency <= 200, "--max-concurrency takes 1 to 200"),
    (
        lambda d: d.multi_model and d.asynchronous is not None,
        "asynchronous inference has no target models: leave out --multi-model or --asynchronous",
    ),
    (
        lambda d: d.serverless is None and d.instance_count < 1 and not d.inference_component,
        "--instance-count is 0: an endpoint has at least one instance; end it with down",
    ),
)
"""Rules of SageMaker, and of the engine that does on this machine what SageMaker does."""


def check(description: Description, rules: Iterable[Rule], more: Iterable[str] = ()) -> None:
    """Raises InvalidDescription with a line for each rule that refuses, and for each sentence of ``more``."""
    reasons = [*(sentence for refused, sentence in rules if refused(description)), *more]
    if reasons:
        raise InvalidDescription("\n".join(reasons))
