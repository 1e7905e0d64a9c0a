"""The attributes of the runtime API: header, length and pattern of each, as the service model of the API states them.

An attribute has the name of the API's parameter, such as CustomAttributes. Its value travels in a header.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

PREFIX = "x-amzn-sagemaker-"
CONTENT_TYPE, ACCEPT = "content-type", "accept"
CUSTOM_ATTRIBUTES = PREFIX + "custom-attributes"
TARGET_MODEL = PREFIX + "target-model"
TARGET_VARIANT = PREFIX + "target-variant"
TARGET_CONTAINER = PREFIX + "target-container-hostname"
INFERENCE_COMPONENT = PREFIX + "inference-component"
SESSION_ID = PREFIX + "session-id"
NEW_SESSION_ID, CLOSED_SESSION_ID = PREFIX + "new-session-id", PREFIX + "closed-session-id"
INFERENCE_ID = PREFIX + "inference-id"
INPUT_LOCATION = PREFIX + "inputlocation"
OUTPUT_EXTENSION = PREFIX + "s3outputpathextension"
FILENAME = PREFIX + "filename"

_ASCII = r"[\x00-\x7f]*"
_VISIBLE = r"[\x20-\x7e]*"
_PRINTABLE = r"[\x21-\x7e][\x20-\x7e]*"
_NAME = r"[a-zA-Z0-9](-*[a-zA-Z0-9])*"


@dataclass(frozen=True, slots=True)
class Attribute:
    """A parameter of the API: ``pattern`` matches the whole value, ``text`` describes the pattern in messages."""

    name: str
    max_characters: int
    pattern: str
    text: str

    def problem(self, value: str) -> str | None:
        """The reason why the API refuses ``value``; None when it is valid."""
        if len(value) <= self.max_characters and re.fullmatch(self.pattern, value):
            return None
        return f"{self.name} must be at most {self.max_characters} {self.text}"


ENDPOINT_NAME = Attribute("EndpointName", 63, _NAME, "letters, digits and inner hyphens")

REQUEST = {
    CONTENT_TYPE: Attribute("ContentType", 1_024, _ASCII, "ASCII characters"),
    ACCEPT: Attribute("Accept", 1_024, _ASCII, "ASCII characters"),
    CUSTOM_ATTRIBUTES: Attribute("CustomAttributes", 1_024, _VISIBLE, "visible ASCII characters"),
    TARGET_MODEL: Attribute("TargetModel", 1_024, _PRINTABLE, "printable characters, the first of them no space"),
    TARGET_VARIANT: Attribute("TargetVariant", 63, _NAME, "letters, digits and inner hyphens"),
    TARGET_CONTAINER: Attribute("TargetContainerHostname", 63, _NAME, "letters, digits and inner hyphens"),
    INFERENCE_COMPONENT: Attribute("InferenceComponentName", 63, _NAME, "letters, digits and inner hyphens"),
    INFERENCE_ID: Attribute("InferenceId", 64, _PRINTABLE, "printable characters, the first of them no space"),
    SESSION_ID: Attribute(
        "SessionId", 256, f"NEW_SESSION|{_NAME}", "letters, digits and inner hyphens, or NEW_SESSION"
    ),
    PREFIX + "enable-explanations": Attribute("EnableExplanations", 64, ".+", "characters, at least one"),
    PREFIX + "prefix-aware-id": Attribute(
        "PrefixAwareId", 64, _PRINTABLE, "printable characters, the first of them no space"
    ),
    INPUT_LOCATION: Attribute("InputLocation", 1_024, r"(https|s3|file)://.*", "characters of an s3:// address"),
    OUTPUT_EXTENSION: Attribute(
        "S3OutputPathExtension",
        512,
        r"(?!s3:|https:)[a-zA-Z0-9!_.*'()/-]+",
        "characters of a-z A-Z 0-9 ! _ . * ' ( ) / -",
    ),
    FILENAME: Attribute(
        "Filename", 32, r"(?!.*\..*\.)[a-zA-Z0-9][a-zA-Z0-9-_.]*", "letters, digits, - and _, with at most one dot"
    ),
}
"""The request headers of the three invoke operations, by their lower-case names."""

RESPONSE = {
    CONTENT_TYPE: Attribute("ContentType", 1_024, _ASCII, "ASCII characters"),
    CUSTOM_ATTRIBUTES: Attribute("CustomAttributes", 1_024, _VISIBLE, "visible ASCII characters"),
    NEW_SESSION_ID: Attribute(
        "NewSessionId",
        256,
        _NAME + r";\sExpires=[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z",
        "characters: ID; Expires=YYYY-MM-DDTHH:MM:SSZ",
    ),
    CLOSED_SESSION_ID: Attribute("ClosedSessionId", 256, _NAME, "letters, digits and inner hyphens"),
}
"""The headers of the container's response that reach the caller, by their lower-case names."""


def problem(headers: Mapping[str, str], attributes: Mapping[str, Attribute]) -> str | None:
    """The first reason why the API refuses one of ``headers``; None when all are valid."""
    found = (attributes[name].problem(value) for name, value in headers.items() if name in attributes)
    return next((reason for reason in found if reason), None)
