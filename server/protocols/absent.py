"""The absent URLs: what other servers have there that this one does not serve, and what to use in its place."""

from __future__ import annotations

import re

MANAGEMENT = r"/models(/.*)?"
_MODEL = r"/v2/models/[^/]+(/versions/[^/]+)?"
_ABSENT = tuple(
    (re.compile(pattern), sentence)
    for pattern, sentence in (
        (r"/v2/(system|cuda)sharedmemory(/.*)?", "shared memory is not supported; send tensors in the body"),
        (rf"(/v2|{_MODEL})/trace(/.*)?", "trace settings are not supported; the header X-Slipway-Timing gives times"),
        (r"/v2/logging", "log settings cannot be changed while the server runs; start it with --log-level"),
        (rf"{_MODEL}/generate(_stream)?", "the generate extension is not supported; use the route /infer"),
        (rf"{_MODEL}/explain|/explanations/.*", "no explainer is served beside a model; use the route that predicts"),
        (MANAGEMENT, "these routes need --multi-model; use /v2/repository or /admin/models"),
        (r"/(workflows|wfpredict)(/.*)?", "TorchServe's workflows are not supported; serve the steps as a pipeline"),
        (
            r"/v1/(chat/completions|completions|responses)|/generate(_stream)?",
            "text generation is not supported; this server runs models of one pass, and /v1/embeddings",
        ),
    )
)


def absent(path: str, fleet: bool) -> str:
    """The sentence for a URL that another server has and this one does not; empty for every other URL.

    ``fleet``: the server is a multi-model endpoint, which has routes of its own under ``/models``."""
    if fleet and re.fullmatch(MANAGEMENT, path):
        return ""
    return next((sentence for pattern, sentence in _ABSENT if pattern.fullmatch(path)), "")
