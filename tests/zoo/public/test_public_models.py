"""Public models from packages, the whole way: ``optimize``, the server, and agreement with the original.

Speed-ups are recorded in ``build/public-models/results`` and not asserted: they depend on the machine.
"""

from __future__ import annotations

import re

import pytest

from tests.zoo.public import walk
from tests.zoo.public.models import MODELS, PublicModel
from tests.zoo.public.packages import Unavailable

pytestmark = [pytest.mark.public_models, pytest.mark.timeout(1_800)]

CANNOT_OPTIMIZE, UNUSABLE = 1, 2
LEAST_COSINE, LEAST_SAME_DECISION = 0.98, 0.97
"""As served, among neighbours, over all rows and outputs."""


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_a_public_model_ends_in_an_artifact_or_a_one_line_refusal(
    model: PublicModel, pytestconfig: pytest.Config
) -> None:
    try:
        model.path()
    except Unavailable as error:
        pytest.skip(f"{model.requirement}: {error}")
    more = ["--budget", pytestconfig.getoption("--public-budget")]
    candidates = pytestconfig.getoption("--public-candidates")
    result, artifact, printed = walk.optimize(model, [*more, *(["--candidates", candidates] if candidates else [])])
    result.save()
    assert "Traceback" not in printed
    if result.exit_code:
        assert result.exit_code in (CANNOT_OPTIMIZE, UNUSABLE)
        assert re.match(r"error: (?!\w+(Error|Exception):)", result.refusal or "")
        return
    walk.compare(model, artifact, result)
    result.bare_speed_up = walk.bare_speed_up(model, artifact)
    result.save()
    assert result.worst_cosine is not None
    assert result.worst_cosine >= LEAST_COSINE
    assert result.same_decision is None or result.same_decision >= LEAST_SAME_DECISION
