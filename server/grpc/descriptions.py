"""The messages of grpc.health.v1 and grpc.reflection.v1alpha, and the descriptions of all files that are served.

The two protocols are small and fixed, so their files are described here, in a pool of their own: a client in the same
process may have them from elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

STRING, BYTES, INT32 = (
    FieldDescriptorProto.TYPE_STRING,
    FieldDescriptorProto.TYPE_BYTES,
    FieldDescriptorProto.TYPE_INT32,
)
MESSAGE, ENUM = FieldDescriptorProto.TYPE_MESSAGE, FieldDescriptorProto.TYPE_ENUM
HEALTH, REFLECTION = "grpc.health.v1", "grpc.reflection.v1alpha"

STATUSES = ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")

Row = tuple[int, str, "int | str"]
"""A field: its number, its name, and its type or the name of its message. A name with ``*`` is repeated."""


def _add(rows: Iterable[Row], message: DescriptorProto, package: str, choice: str = "") -> None:
    """Add fields to a message. ``choice``: the name of the oneof that they are in."""
    for number, name, kind in rows:
        field = message.field.add(name=name.rstrip("*"), number=number)
        field.label = field.LABEL_REPEATED if name.endswith("*") else field.LABEL_OPTIONAL
        if isinstance(kind, str):
            field.type, field.type_name = ENUM if kind.endswith("Status") else MESSAGE, f".{package}.{kind}"
        else:
            field.type = kind
        if choice:
            field.oneof_index = 0
    if choice:
        message.oneof_decl.add(name=choice)


def _file(
    path: str,
    package: str,
    messages: dict[str, Sequence[Row]],
    choices: dict[str, tuple[str, Sequence[Row]]],
    service: str,
    methods: Iterable[tuple[str, str, str, bool, bool]],
) -> FileDescriptorProto:
    """The description of a file. ``methods``: name, request, response, and whether each of both is a stream."""
    file = FileDescriptorProto(name=path, package=package, syntax="proto3")
    for name, rows in messages.items():
        message = file.message_type.add(name=name)
        _add(rows, message, package)
        if name in choices:
            _add(choices[name][1], message, package, choices[name][0])
    made = file.service.add(name=service)
    for name, request, response, many_in, many_out in methods:
        made.method.add(
            name=name,
            input_type=f".{package}.{request}",
            output_type=f".{package}.{response}",
            client_streaming=many_in,
            server_streaming=many_out,
        )
    return file


def _health() -> FileDescriptorProto:
    request, response, listed = "HealthCheckRequest", "HealthCheckResponse", "HealthListResponse"
    file = _file(
        "grpc/health/v1/health.proto",
        HEALTH,
        {
            request: [(1, "service", STRING)],
            response: [(1, "status", f"{response}.ServingStatus")],
            "HealthListRequest": [],
            listed: [(1, "statuses*", f"{listed}.StatusesEntry")],
        },
        {},
        "Health",
        [
            ("Check", request, response, False, False),
            ("List", "HealthListRequest", listed, False, False),
            ("Watch", request, response, False, True),
        ],
    )
    statuses = file.message_type[1].enum_type.add(name="ServingStatus")
    for number, name in enumerate(STATUSES):
        statuses.value.add(name=name, number=number)
    entry = file.message_type[3].nested_type.add(name="StatusesEntry")
    entry.options.map_entry = True
    _add([(1, "key", STRING), (2, "value", response)], entry, HEALTH)
    return file


def _reflection() -> FileDescriptorProto:
    request, response = "ServerReflectionRequest", "ServerReflectionResponse"
    return _file(
        "grpc/reflection/v1alpha/reflection.proto",
        REFLECTION,
        {
            request: [(1, "host", STRING)],
            "ExtensionRequest": [(1, "containing_type", STRING), (2, "extension_number", INT32)],
            response: [(1, "valid_host", STRING), (2, "original_request", request)],
            "FileDescriptorResponse": [(1, "file_descriptor_proto*", BYTES)],
            "ExtensionNumberResponse": [(1, "base_type_name", STRING), (2, "extension_number*", INT32)],
            "ListServiceResponse": [(1, "service*", "ServiceResponse")],
            "ServiceResponse": [(1, "name", STRING)],
            "ErrorResponse": [(1, "error_code", INT32), (2, "error_message", STRING)],
        },
        {
            request: (
                "message_request",
                [
                    (3, "file_by_filename", STRING),
                    (4, "file_containing_symbol", STRING),
                    (5, "file_containing_extension", "ExtensionRequest"),
                    (6, "all_extension_numbers_of_type", STRING),
                    (7, "list_services", STRING),
                ],
            ),
            response: (
                "message_response",
                [
                    (4, "file_descriptor_response", "FileDescriptorResponse"),
                    (5, "all_extension_numbers_response", "ExtensionNumberResponse"),
                    (6, "list_services_response", "ListServiceResponse"),
                    (7, "error_response", "ErrorResponse"),
                ],
            ),
        },
        "ServerReflection",
        [("ServerReflectionInfo", request, response, True, True)],
    )


FILES = (_health(), _reflection())
_pool = DescriptorPool()
for _one in FILES:
    _pool.Add(_one)


def message_class(package: str, name: str) -> Any:
    """The class of one message of health or reflection."""
    return GetMessageClass(_pool.FindMessageTypeByName(f"{package}.{name}"))


class Files:
    """The files that are served, found by their name or by what they describe. None imports another one."""

    def __init__(self, further: FileDescriptorProto) -> None:
        """``further``: the file of the inference service."""
        self._files = (*FILES, further)

    def file_by_filename(self, name: str) -> list[FileDescriptorProto]:
        """The file of this name, or nothing."""
        return [one for one in self._files if one.name == name]

    def file_containing_symbol(self, symbol: str) -> list[FileDescriptorProto]:
        """The file of this message, service or method, or nothing."""
        return [one for one in self._files if symbol in _symbols(one)]


def _symbols(file: FileDescriptorProto) -> set[str]:
    """The full names of all that a file describes."""
    found: set[str] = set()
    waiting: list[tuple[str, Any]] = [
        (file.package, one) for one in (*file.message_type, *file.enum_type, *file.service)
    ]
    while waiting:
        parent, one = waiting.pop()
        name = f"{parent}.{one.name}"
        found.add(name)
        for kind in ("nested_type", "enum_type", "method", "field"):
            waiting += [(name, inner) for inner in getattr(one, kind, ())]
    return found
