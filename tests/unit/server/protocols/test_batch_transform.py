"""What a batch transform is advised to send side by side."""

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
    found = advice(read(flags, {}), max_batch_size, instances)
    assert found == {"MaxConcurrentTransforms": transforms, "BatchStrategy": "MULTI_RECORD", "MaxPayloadInMB": payload}


def test_what_the_platform_has_set_is_what_it_is_told() -> None:
    environ = {
        "SAGEMAKER_MAX_PAYLOAD_IN_MB": "3",
        "SAGEMAKER_BATCH_STRATEGY": "SINGLE_RECORD",
        "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS": "5",
    }
    assert advice(read([], environ), 1, 1) == {
        "MaxConcurrentTransforms": 5,
        "BatchStrategy": "SINGLE_RECORD",
        "MaxPayloadInMB": 3,
    }


def test_the_advice_is_never_nothing() -> None:
    assert advice(Settings(max_body_mb=0.001), 1, 1)["MaxPayloadInMB"] == 1
