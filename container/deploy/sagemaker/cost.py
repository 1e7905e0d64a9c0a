"""The cost of a deployment: the price of its instances by hour and month, and of a million requests."""

from __future__ import annotations

import json
from typing import Any

from ..errors import DeployError, InvalidDescription
from ..order import Order
from .services import Services

HOURS_PER_MONTH = 730
PRICE_LIST_REGION = "us-east-1"
"""The price list of all regions is served from here."""


def of(order: Order, services: Services) -> dict[str, Any]:
    """Costs in the currency of the price. Raises InvalidDescription for a serverless endpoint."""
    description = order.description
    if description.serverless is not None:
        raise InvalidDescription(
            "a serverless endpoint has no price per hour: it costs by GB-second and byte of requests"
        )
    price, source = description.price, description.source("price")
    if price is None:
        price, source = _listed(order, services), "the AWS price list"
    least = description.instance_count if description.max_instances is None else description.min_instances or 0
    most = description.max_instances or description.instance_count
    plan = order.facts.plan
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


def _listed(order: Order, services: Services) -> float:
    description = order.description
    description.require("instance_type")
    wanted = {"instanceName": description.instance_type, "regionCode": description.region, "component": "Hosting"}
    filters = [{"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in wanted.items()]
    prices = Services(PRICE_LIST_REGION, observe=services.observe)
    products = prices.ask("pricing", "GetProducts", ServiceCode="AmazonSageMaker", Filters=filters)["PriceList"]
    for product in products:
        for term in json.loads(product)["terms"]["OnDemand"].values():
            for dimension in term["priceDimensions"].values():
                return float(next(iter(dimension["pricePerUnit"].values())))
    raise DeployError(f"the price list has no {description.instance_type} in {description.region}: pass --price")
