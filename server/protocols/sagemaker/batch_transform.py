"""Batch transform: ``GET /execution-parameters``, which a job reads once before it sends records."""

from __future__ import annotations

from dataclasses import replace

import orjson

from ...errors import NotReady, SlipwayError
from ...lifecycle import Lifecycle, Phase
from ...models import Models
from ...request import Head
from ...settings.options import Settings
from .. import JSON, Responder, Route
from ..failure import send_failure

MIB = 1_048_576
SINGLE_RECORD = "SINGLE_RECORD"
USUAL_PAYLOAD_MIB = 6
"""The platform's default payload size."""
MOST_AT_ONCE_MIB = 100
"""The platform refuses a job if its payload times its concurrency exceeds this."""
SLACK = 2
"""Requests beyond the running ones, so that one waits while another is read or written."""


class BatchTransform:
    """``GET /execution-parameters`` of the default model."""

    def __init__(self, models: Models, lifecycle: Lifecycle, settings: Settings) -> None:
        self._models = models
        self._lifecycle = lifecycle
        self._settings = settings

    def parameters(self, head: Head, body: bytes, responder: Responder) -> None:  # noqa: ARG002 - the handler's signature
        try:
            model = self._models.default()
        except SlipwayError as error:
            starting = self._lifecycle.phase is Phase.STARTING
            send_failure(NotReady("the server is starting") if starting else error, head, responder)
            return
        settings = self._settings
        if not model.independent:  # records in one request would change each other's answers
            settings = replace(settings, batch_strategy=SINGLE_RECORD)
        responder.send(200, JSON, orjson.dumps(advice(settings, model.max_batch_size, model.instances)))

    def routes(self) -> list[Route]:
        return [
            Route(
                "/execution-parameters",
                ("GET",),
                lambda _: self.parameters,
                "Concurrency and payload size for a batch transform job",
                "SageMaker",
            )
        ]


def advice(settings: Settings, max_batch_size: int, instances: int) -> dict[str, int | str]:
    """The three values of the platform's document.

    The concurrency fills every instance's largest batch with requests of one row, within the platform's limit of memory
    for a job.
    """
    limit_mib = int(settings.max_body_mb * 1e6) // MIB
    # Without a limit the platform sends whole files in chunks, but still requires a number.
    payload_mib = max(min(limit_mib, USUAL_PAYLOAD_MIB), 1) if settings.max_body_mb else USUAL_PAYLOAD_MIB
    wanted = max_batch_size * instances + SLACK
    transforms = settings.max_concurrent_transforms or max(min(wanted, MOST_AT_ONCE_MIB // payload_mib), 1)
    return {
        "MaxConcurrentTransforms": transforms,
        "BatchStrategy": settings.batch_strategy,
        "MaxPayloadInMB": payload_mib,
    }
