"""For every test: properties take 50 examples of a fixed seed, none fails for being slow, async tests run on asyncio.

Processes that tests start write and read bytecode, even where the environment forbids it: compiling all modules of the
server takes as long as the rest of its start, and the tests start hundreds of them.
"""

import gc
import os
import sys

import pytest
from hypothesis import HealthCheck, settings

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

settings.register_profile(
    "slipway", max_examples=50, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
settings.load_profile("slipway")


def pytest_collection_finish() -> None:
    """What is there before the first test is not searched for garbage again: all libraries, and ten thousand items."""
    gc.freeze()


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"
