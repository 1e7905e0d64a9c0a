"""Batch transform: ``GET /execution-parameters``, which a job reads once before it sends records."""

from __future__ import annotations

from math import prod

import orjson

from ...errors import SlipwayError
from ...lifecycle import Lifecycle
from ...models import Models, ServedModel
from ...request import Head
from ...settings.options import Settings
from .. import JSON, Responder, Route
from ..failure import send_failure

MIB = 1_048_576
USUAL_PAYLOAD_MIB = 6
"""The platform's default payload size."""
MOST_AT_ONCE_MIB = 100
"""The platform refuses a job if its payload times its concurrency exceeds this."""
VALUE_BYTES = 12
"""A number with its separator in CSV or JSON."""
MANY, SINGLE, FROM_MODEL = "MULTI_RECORD", "SINGLE_RECORD", "MODEL"
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
            send_failure(self._lifecycle.instead_of(error), head, responder)
            return
        rows = model.scripted or (model.independent and model.spec.batchable)
        document = advice(self._settings, _row_values(model), model.max_batch_size, model.instances, rows)
        responder.send(200, JSON, orjson.dumps(document))

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


def advice(
    settings: Settings, row_values: int, max_batch_size: int, instances: int, rows: bool
) -> dict[str, int | str]:
    """The three values of the platform's document, from the model's signature and the settings.

    The payload holds at least one row. The concurrency fills every instance's largest batch with requests of one row,
    within the platform's limit of memory for a job. ``row_values``: the numbers of one row.
    ``rows``: whether a request may have several rows.
    """
    # Without a limit the platform sends whole files in chunks, but still requires a number.
    limit_mib = max(int(settings.max_body_mb * 1e6) // MIB, 1) if settings.max_body_mb else MOST_AT_ONCE_MIB
    wanted_mib = max(USUAL_PAYLOAD_MIB, -(-row_values * VALUE_BYTES // MIB))
    payload_mib = min(limit_mib, wanted_mib, MOST_AT_ONCE_MIB)
    wanted = max_batch_size * instances + SLACK
    transforms = settings.max_concurrent_transforms or max(min(wanted, MOST_AT_ONCE_MIB // payload_mib), 1)
    strategy = (MANY if rows else SINGLE) if settings.batch_strategy == FROM_MODEL else settings.batch_strategy
    return {
        "MaxConcurrentTransforms": transforms,
        "BatchStrategy": strategy,
        "MaxPayloadInMB": payload_mib,
    }


def _row_values(model: ServedModel) -> int:
    """The numbers of one row; an axis of variable size counts as 1."""
    return sum(prod(max(size, 1) for size in one.shape[1:]) for one in model.spec.inputs)
