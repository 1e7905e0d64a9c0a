"""The parts that a setting switches on; what is off is not imported."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import BadSetting
from ..http.certificates import Certificates
from ..settings import sagemaker
from ..settings.options import Settings, flag
from ..settings.reader import environment
from .timers import later

if TYPE_CHECKING:
    from ..observe.tracing import Tracing
    from ..protocols.capture import Capture

log = logging.getLogger("slipway")


def grpc_missing(error: ImportError) -> str:
    """What is to be done where the listener for gRPC cannot be imported."""
    if (error.name or "").endswith("inference_pb2"):
        return "--grpc-port needs server/grpc/inference_pb2.py, which is generated: run make .venv/.all"
    return f"--grpc-port needs the package {error.name}: install the requirements of the extra grpc"


def refuse_on_platform(settings: Settings) -> None:
    """Raises BadSetting for API keys and TLS on SageMaker, whose platform sends no key and speaks plain HTTP."""
    wanted = [name for name in ("api_keys_file", "tls_cert") if getattr(settings, name)]
    if wanted and sagemaker.is_platform(environment()):
        raise BadSetting(
            f"{flag(wanted[0])} cannot be used on SageMaker, which authenticates its clients itself; leave it out (a "
            "SAGEMAKER_* variable is set)"
        )


def certificates(settings: Settings) -> Certificates | None:
    """The certificate of the settings. Raises BadSetting if it cannot be used."""
    if settings.tls_cert:
        return Certificates(Path(settings.tls_cert), Path(settings.tls_key) if settings.tls_key else None)
    if settings.tls_key:
        raise BadSetting("--tls-key needs --tls-cert, the certificate of the key")
    return None


def tracing(settings: Settings) -> Tracing | None:
    """The tracing of the settings. Raises BadSetting without the extra, or for an unknown exporter."""
    if not settings.tracing:
        return None
    try:
        from ..observe.tracing import Tracing, provider_of
    except ModuleNotFoundError as error:
        raise BadSetting(f"--tracing needs the package {error.name}: install the extra 'tracing'") from error
    return Tracing(provider_of(environment()))


def capture(settings: Settings) -> Capture | None:
    """The data capture of the settings. Raises BadSetting."""
    if not settings.capture_to:
        return None
    from ..protocols.capture import capture_of

    return capture_of(settings, later)


def receive_limit(settings: Settings) -> int:
    """Bytes that connections may hold together: at least one body of the largest size with its head."""
    least = int(settings.max_body_mb * 1e6 + 2 * settings.max_head_kb * 1e3)
    limit = int(settings.max_receive_mb * 1e6)
    if limit < least:
        log.info("setting raised setting=max_receive_mb to=%g; one body of --max-body-mb needs it", least / 1e6)
    return max(limit, least)
