from google.protobuf import descriptor, message

DESCRIPTOR: descriptor.FileDescriptor

class HealthCheckRequest(message.Message):
    service: str
    def __init__(self, *, service: str = ...) -> None: ...

class HealthCheckResponse(message.Message):
    UNKNOWN: int
    SERVING: int
    NOT_SERVING: int
    SERVICE_UNKNOWN: int
    status: int
    def __init__(self, *, status: int = ...) -> None: ...
