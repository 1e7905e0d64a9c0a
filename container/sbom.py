"""The bill of materials: the Python distributions and Debian packages of this interpreter's system, CycloneDX 1.6.

    python sbom.py VERSION > sbom.cdx.json

Runs inside the image at the end of its build, with the standard library only, and again when a user adds requirements.
"""

from __future__ import annotations

import json
import re
import sys
import uuid
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

DPKG_STATUS = Path("/var/lib/dpkg/status")

Component = dict[str, Any]


def distributions() -> Iterator[Component]:
    """The installed Python distributions."""
    for one in metadata.distributions():
        name, version = re.sub("[-_.]+", "-", one.metadata["Name"]).lower(), one.version
        licence = one.metadata.json.get("license_expression")
        yield {
            "type": "library",
            "bom-ref": f"pkg:pypi/{name}@{version}",
            "name": name,
            "version": version,
            "purl": f"pkg:pypi/{name}@{version}",
            **({"licenses": [{"expression": licence}]} if licence else {}),
        }


def debian_packages(status: str) -> Iterator[Component]:
    """The installed packages in the text of a dpkg status file; none for an empty text."""
    for block in status.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line and line[0] != " ")
        if fields.get("Status") != "install ok installed":
            continue
        name, version = fields["Package"], fields["Version"]
        purl = f"pkg:deb/debian/{name}@{version.replace('+', '%2B')}?arch={fields['Architecture']}"
        yield {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}


def document(version: str, components: list[Component]) -> dict[str, Any]:
    """The CycloneDX document. Its serial number is a hash of the content, so that equal images have equal documents."""
    ordered = sorted(components, key=lambda one: str(one["bom-ref"]))
    content = json.dumps([version, ordered])
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, content)}",
        "version": 1,
        "metadata": {"component": {"type": "container", "bom-ref": "slipway", "name": "slipway", "version": version}},
        "components": ordered,
    }


def _python() -> Component:
    version = ".".join(map(str, sys.version_info[:3]))
    return {"type": "platform", "bom-ref": f"pkg:generic/python@{version}", "name": "python", "version": version}


def main(version: str) -> None:
    status = DPKG_STATUS.read_text("utf-8") if DPKG_STATUS.is_file() else ""
    found = {one["bom-ref"]: one for one in (*distributions(), *debian_packages(status), _python())}
    json.dump(document(version, list(found.values())), sys.stdout, indent=1)


if __name__ == "__main__":
    main(*sys.argv[1:])
