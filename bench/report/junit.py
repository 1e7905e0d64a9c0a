"""JUnit: checks as the XML that every CI system shows.

Written with the standard library: junitparser models a file that it reads, and would replace only the twenty lines of
``render``. docs/decisions/0007-libraries.md has the comparison.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

from ..errors import Unusable
from .checks import Check


def render(suite: str, checks: Sequence[Check], seconds: float = 0.0) -> bytes:
    """The XML document, in UTF-8. ``seconds``: the measured time."""
    failures = sum(one.why is not None for one in checks)
    skipped = sum(one.skipped is not None for one in checks)
    root = ET.Element("testsuites")
    parent = ET.SubElement(root, "testsuite", name=suite, time=f"{seconds:.3f}", tests=str(len(checks)), errors="0")
    parent.attrib |= {"failures": str(failures), "skipped": str(skipped)}
    for one in checks:
        case = ET.SubElement(parent, "testcase", classname=suite, name=one.name)
        if one.why is not None:
            ET.SubElement(case, "failure", message=_plain(one.why))
        elif one.skipped is not None:
            ET.SubElement(case, "skipped", message=_plain(one.skipped))
    ET.indent(root)
    document: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return document + b"\n"


def write(path: Path, suite: str, checks: Sequence[Check], seconds: float = 0.0) -> None:
    """Write the document. Raises Unusable when the disk refuses."""
    try:
        path.write_bytes(render(suite, checks, seconds))
    except OSError as error:
        raise Unusable(f"cannot write {str(path)!r}: {error.strerror or error}") from error


def _plain(text: str) -> str:
    """The text with ``?`` for control characters, which a server may send and XML cannot hold."""
    return "".join(sign if sign.isprintable() or sign in "\n\t" else "?" for sign in text)
