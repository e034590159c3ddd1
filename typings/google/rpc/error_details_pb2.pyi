from collections.abc import Iterable, Mapping

from google.protobuf import descriptor, duration_pb2, message
from google.protobuf.internal import containers

DESCRIPTOR: descriptor.FileDescriptor

class ErrorInfo(message.Message):
    reason: str
    domain: str
    @property
    def metadata(self) -> containers.ScalarMap[str, str]: ...
    def __init__(
        self, *, reason: str = ..., domain: str = ..., metadata: Mapping[str, str] = ...
    ) -> None: ...

class RetryInfo(message.Message):
    @property
    def retry_delay(self) -> duration_pb2.Duration: ...
    def __init__(self, *, retry_delay: duration_pb2.Duration = ...) -> None: ...

class BadRequest(message.Message):
    class FieldViolation(message.Message):
        field: str
        description: str
        def __init__(self, *, field: str = ..., description: str = ...) -> None: ...

    @property
    def field_violations(
        self,
    ) -> containers.RepeatedCompositeFieldContainer[BadRequest.FieldViolation]: ...
    def __init__(self, *, field_violations: Iterable[BadRequest.FieldViolation] = ...) -> None: ...
