"""Documents as YAML text, for the tools that apply them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .errors import DeployError


def yaml_of(document: Mapping[str, Any]) -> str:
    """A YAML document with its keys in their order, and no anchors. Raises DeployError where PyYAML is missing."""
    try:
        import yaml
    except ModuleNotFoundError as error:
        raise DeployError("YAML needs PyYAML: install the extra deploy, or pass --json to plan") from error

    # Through JSON, so that shared parts do not become anchors.
    text: str = yaml.safe_dump(json.loads(json.dumps(document)), sort_keys=False, allow_unicode=True, width=120)
    return text
