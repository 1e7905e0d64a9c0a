"""For every test: properties start from a fixed seed, no test fails for being slow, async tests run on asyncio."""

import pytest
from hypothesis import settings

settings.register_profile("slipway", deadline=None, derandomize=True)
settings.load_profile("slipway")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"
