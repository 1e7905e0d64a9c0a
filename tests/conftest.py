"""What holds for every test: properties are derived from a fixed seed, and no test fails for being slow."""

from hypothesis import settings

settings.register_profile("slipway", deadline=None, derandomize=True)
settings.load_profile("slipway")
