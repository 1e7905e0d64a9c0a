"""The price of an instance on SageMaker: as given, or as the price list says."""

from __future__ import annotations

import json
from typing import Any

from .. import costs
from ..errors import DeployError, InvalidDescription
from ..order import Order
from .services import Services

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
    return costs.of(description, order.facts, price, source)


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
