"""For every test: properties start from a fixed seed, no test fails for being slow, async tests run on asyncio.

Processes that tests start write and read bytecode, even where the environment forbids it: compiling all modules of the
server takes as long as the rest of its start, and the tests start hundreds of them.
"""

import os
import sys

import pytest
from hypothesis import settings

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

settings.register_profile("slipway", deadline=None, derandomize=True)
settings.load_profile("slipway")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"
