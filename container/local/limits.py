"""The limits of the platform: times, sizes and counts, each as its documentation states it."""

from __future__ import annotations

from dataclasses import dataclass, replace

MIB = 1_048_576
"""The platform's MB."""

REAL_TIME_BYTES = 25 * MIB
SERVERLESS_BYTES = 4 * MIB
SERVERLESS_IMAGE_BYTES = 10_000_000_000
SERVERLESS_MEMORY_MIB = range(1_024, 6_145, 1_024)
SERVERLESS_STARTUP_S = 180.0
ASYNC_BYTES = 1_024 * MIB
INLINE_BYTES = 128_000
"""Largest input of an asynchronous request that is sent as its body."""
TRANSFORM_BYTES = 100 * MIB
"""MaxPayloadInMB times MaxConcurrentTransforms of a transform job."""

SHARED_MEMORY_MIB = 64
"""Size of /dev/shm in a hosted container; the platform has no option to raise it."""

ENVIRONMENT_ENTRIES, ENVIRONMENT_TEXT_BYTES, ENVIRONMENT_BYTES = 100, 1_024, 32_768
TRANSFORM_TYPE_CHARACTERS = 256
"""Longest ContentType and Accept of a transform job."""


@dataclass(frozen=True, slots=True)
class PlatformLimits:
    """The limits of one endpoint. Times in seconds."""

    accept_s: float = 0.25
    ping_timeout_s: float = 2.0
    ping_interval_s: float = 5.0
    startup_s: float = 240.0
    """``ContainerStartupHealthCheckTimeoutInSeconds``."""
    response_s: float = 60.0
    stream_s: float = 480.0
    load_answer_s: float = 60.0
    """A caller waits this long for the load of a target model, then gets ModelNotReadyException."""
    load_s: float = 360.0
    stop_s: float = 30.0
    """From SIGTERM to SIGKILL."""
    payload_bytes: int = REAL_TIME_BYTES
    concurrent: int | None = None
    """Concurrent requests: ``MaxConcurrency`` of a serverless endpoint. None: no limit."""

    def serverless(self, concurrent: int) -> PlatformLimits:
        """The limits of a serverless endpoint with this many concurrent requests."""
        startup_s = min(self.startup_s, SERVERLESS_STARTUP_S)
        return replace(self, startup_s=startup_s, payload_bytes=SERVERLESS_BYTES, concurrent=concurrent)
