"""Reflection, version 1alpha: which services there are, and the descriptions of their files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.message import DecodeError

from .call import Call
from .codes import Code
from .descriptions import REFLECTION, Files, message_class

SERVICE = "grpc.reflection.v1alpha.ServerReflection"

REQUEST, RESPONSE = (message_class(REFLECTION, f"ServerReflection{name}") for name in ("Request", "Response"))


class Reflection:
    """Answers what clients ask about the services. ``files``: their descriptions."""

    def __init__(self, services: Sequence[str], files: Files) -> None:
        self._services = sorted(services)
        self._files = files

    def converse(self, call: Call) -> Questions:
        """Begin a call."""
        return Questions(call, self._answer)

    def _answer(self, request: Any) -> Any:
        response = RESPONSE(original_request=request)
        asked = request.WhichOneof("message_request")
        if asked == "list_services":
            for name in self._services:
                response.list_services_response.service.add(name=name)
            return response
        found: list[FileDescriptorProto] = []
        if asked in ("file_by_filename", "file_containing_symbol"):
            found = getattr(self._files, asked)(getattr(request, asked))
        if asked == "all_extension_numbers_of_type" and self._files.file_containing_symbol(getattr(request, asked)):
            response.all_extension_numbers_response.base_type_name = getattr(request, asked)
        elif found:
            response.file_descriptor_response.file_descriptor_proto.extend(one.SerializeToString() for one in found)
        else:
            response.error_response.error_code = Code.NOT_FOUND
            response.error_response.error_message = "nothing of this name is served"
        return response


class Questions:
    """One call: each question gets one answer."""

    def __init__(self, call: Call, answer: Callable[[Any], Any]) -> None:
        self._call = call
        self._answer = answer

    @property
    def room(self) -> bool:
        """Whether the client reads its answers."""
        return not self._call.stream.unsent

    def message(self, body: bytes) -> None:
        """One question."""
        try:
            request = REQUEST.FromString(body)
        except DecodeError:
            self._call.fail(Code.INVALID_ARGUMENT, "the message is not a well-formed ServerReflectionRequest")
            return
        self._call.write(self._answer(request).SerializeToString())

    def ended(self) -> None:
        self._call.fail(Code.OK)

    def leave(self) -> None:
        self._call.fail(Code.UNAVAILABLE, "the server is draining")

    def over(self, then: Callable[[], None]) -> None:
        then()
