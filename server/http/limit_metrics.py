"""The metrics of received bytes and connections."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from .limits import Connections, ProcessAccount


@dataclass(frozen=True, slots=True)
class LimitFamilies:
    """The families of one process."""

    account: ProcessAccount
    connections: Connections

    def families(self) -> Iterator[Any]:
        account = self.account
        yield GaugeMetricFamily(
            "slipway_received_bytes", "Received bytes that connections hold", value=account.held_bytes
        )
        yield GaugeMetricFamily(
            "slipway_received_peak_bytes", "Most received bytes that connections held at once", value=account.peak_bytes
        )
        yield GaugeMetricFamily("slipway_connections", "Open connections", value=len(self.connections))
        yield CounterMetricFamily(
            "slipway_accepted_connections", "Connections that were accepted", value=self.connections.accepted
        )
        yield CounterMetricFamily(
            "slipway_refused_connections", "Connections refused at the limit", value=self.connections.refused
        )
