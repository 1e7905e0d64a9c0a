"""The locust file: an editable file with which locust sends the same load."""

from __future__ import annotations

from pathlib import Path

from .errors import Unusable
from .load import payload
from .load.target import Target

ARRIVALS = ("poisson", "constant")
"""Arrival processes without an end, because a locust user does not know when its run ends."""
TEMPLATE = '''"""Load {url} on a schedule, in locust. Written by `python -m bench locustfile`; edit it freely.

    locust -f THIS_FILE --headless -u 1 -t 30s      (or without --headless, for the web page on port 8089)
"""

import sys

sys.path.insert(0, {repository!r})  # where Slipway is

from bench.load.locust_user import OpenLoopUser


class Caller(OpenLoopUser):
    host = {host!r}
    path = {path!r}
    payload = {payload!r}
    content_type = {content_type!r}
    rate_per_s = {rate!r}  # of each user: two users send twice as much
    arrivals = {arrivals!r}  # poisson or constant
    seed = {seed!r}
'''


def render(place: Target, body: Path, content_type: str | None, rate_per_s: float, arrivals: str, seed: int) -> str:
    """The text of the file. Raises Unusable if the payload cannot be read."""
    found = payload.read(body, content_type)
    if not rate_per_s > 0:
        raise Unusable("the rate must be positive")
    return TEMPLATE.format(
        url=place.url,
        repository=str(Path(__file__).resolve().parents[1]),
        host=place.root,
        path=place.path,
        payload=str(body.resolve()),
        content_type=found.content_type,
        rate=rate_per_s,
        arrivals=arrivals,
        seed=seed,
    )
