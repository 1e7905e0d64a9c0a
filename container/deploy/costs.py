"""The cost of instances with a price: by hour and month, and of a million requests."""

from __future__ import annotations

from typing import Any

from .defaults import Facts
from .description import Description

HOURS_PER_MONTH = 730


def of(description: Description, facts: Facts, price: float, source: str) -> dict[str, Any]:
    """Costs in the currency of the price, which is that of an instance and hour."""
    least = description.instance_count if description.max_instances is None else description.min_instances or 0
    most = description.max_instances or description.instance_count
    plan = facts.plan
    served = plan["capacity_per_s"] * plan["safety_factor"] * 3_600 if plan else None
    return {
        "price_per_hour": price,
        "source": source,
        "instances": [least, most],
        "per_hour": [least * price, most * price],
        "per_month": [least * price * HOURS_PER_MONTH, most * price * HOURS_PER_MONTH],
        "per_million_requests": price / served * 1e6 if served else None,
    }


def as_text(cost: dict[str, Any]) -> list[str]:
    """For people."""
    least, most = cost["instances"]
    lines = [
        f"price      {cost['price_per_hour']:,.4f} per instance and hour ({cost['source']})",
        f"hour       {_span(cost['per_hour'])} for {least} to {most} instances" if least != most else
        f"hour       {cost['per_hour'][0]:,.2f} for {least} instances",
        f"month      {_span(cost['per_month'])} of {HOURS_PER_MONTH} hours",
    ]  # fmt: skip
    if cost["per_million_requests"] is not None:
        lines.append(f"requests   {cost['per_million_requests']:,.2f} per million at the planned load of an instance")
    return lines


def _span(values: list[float]) -> str:
    least, most = values
    return f"{least:,.2f}" if least == most else f"{least:,.2f} to {most:,.2f}"
