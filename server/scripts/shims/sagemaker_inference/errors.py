"""The toolkit's exceptions: a script that raises one chooses the status of its answer."""

from __future__ import annotations

import http


class BaseInferenceToolkitError(Exception):
    """An answer of that status, with that message."""

    def __init__(self, status_code: int, message: str, phrase: str) -> None:
        super().__init__(status_code, message, phrase)
        self.status_code = status_code
        self.message = message
        self.phrase = phrase


class GenericInferenceToolkitError(BaseInferenceToolkitError):
    """The same, with what HTTP calls the status where nothing else is said."""

    def __init__(self, status_code: int, message: str | None = None, phrase: str | None = None) -> None:
        try:
            usual = http.HTTPStatus(status_code).phrase
        except ValueError:
            usual = "Unknown"
        super().__init__(status_code, message or "Invalid Request", phrase or usual)


class UnsupportedFormatError(Exception):
    """A media type that is neither read nor written: 415 from ``input_fn``, 406 from ``output_fn``."""

    def __init__(self, content_type: str | None) -> None:
        super().__init__(content_type)
        self.message = f"Content type {content_type} is not supported by this framework."


class ModelLoadError(GenericInferenceToolkitError):
    """The model could not be loaded."""

    def __init__(self, message: str = "Failed to load model") -> None:
        super().__init__(500, message)
