"""The advice of /execution-parameters, from the settings and the model's signature."""

from __future__ import annotations

import pytest

from server.protocols.sagemaker.batch_transform import advice
from server.settings.options import Settings
from server.settings.reader import read


@pytest.mark.parametrize(
    ("flags", "max_batch_size", "instances", "transforms", "payload"),
    [
        ([], 4, 2, 10, 6),
        ([], 64, 4, 16, 6),
        (["--max-body-mb", "2.2"], 64, 1, 50, 2),
        (["--max-body-mb", "0.5"], 64, 4, 100, 1),
        (["--max-body-mb", "0"], 1, 1, 3, 6),
        (["--max-concurrent-transforms", "7"], 64, 4, 7, 6),
    ],
)
def test_advice(flags: list[str], max_batch_size: int, instances: int, transforms: int, payload: int) -> None:
    found = advice(read(flags, {}), 4, max_batch_size, instances, rows=True)
    assert found == {"MaxConcurrentTransforms": transforms, "BatchStrategy": "MULTI_RECORD", "MaxPayloadInMB": payload}


def test_a_model_without_rows_gets_single_records() -> None:
    assert advice(Settings(), 4, 1, 1, rows=False)["BatchStrategy"] == "SINGLE_RECORD"
    forced = read(["--batch-strategy", "MULTI_RECORD"], {})
    assert advice(forced, 4, 1, 1, rows=False)["BatchStrategy"] == "MULTI_RECORD"


@pytest.mark.parametrize(
    ("values", "body_mb", "payload"), [(3 * 512 * 512, 30, 9), (3 * 2048 * 2048, 500, 100), (10**6, 5, 4)]
)
def test_the_payload_holds_a_row_within_the_limits(values: int, body_mb: float, payload: int) -> None:
    assert advice(Settings(max_body_mb=body_mb), values, 1, 1, rows=True)["MaxPayloadInMB"] == payload


def test_the_platforms_variables_take_precedence() -> None:
    environ = {
        "SAGEMAKER_MAX_PAYLOAD_IN_MB": "3",
        "SAGEMAKER_BATCH_STRATEGY": "SINGLE_RECORD",
        "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS": "5",
    }
    assert advice(read([], environ), 4, 1, 1, rows=True) == {
        "MaxConcurrentTransforms": 5,
        "BatchStrategy": "SINGLE_RECORD",
        "MaxPayloadInMB": 3,
    }


def test_the_advised_payload_is_at_least_one() -> None:
    assert advice(Settings(max_body_mb=0.001), 4, 1, 1, rows=True)["MaxPayloadInMB"] == 1
