"""The toolkit's exceptions: a script that raises one chooses the status of its response."""

from __future__ import annotations

import http


class BaseInferenceToolkitError(Exception):
    """A response with this status and message."""

    def __init__(self, status_code: int, message: str, phrase: str) -> None:
        super().__init__(status_code, message, phrase)
        self.status_code = status_code
        self.message = message
        self.phrase = phrase


class GenericInferenceToolkitError(BaseInferenceToolkitError):
    """The same; the phrase defaults to HTTP's phrase of the status."""

    def __init__(self, status_code: int, message: str | None = None, phrase: str | None = None) -> None:
        try:
            usual = http.HTTPStatus(status_code).phrase
        except ValueError:
            usual = "Unknown"
        super().__init__(status_code, message or "Invalid Request", phrase or usual)


class UnsupportedFormatError(Exception):
    """An unsupported media type: 415 from ``input_fn``, 406 from ``output_fn``."""

    def __init__(self, content_type: str | None) -> None:
        super().__init__(content_type)
        self.message = f"Content type {content_type} is not supported by this framework."


class ModelLoadError(GenericInferenceToolkitError):
    """The model could not be loaded."""

    def __init__(self, message: str = "Failed to load model") -> None:
        super().__init__(500, message)
