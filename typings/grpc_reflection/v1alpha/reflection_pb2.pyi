from google.protobuf import message
from google.protobuf.internal import containers

class ServerReflectionRequest(message.Message):
    list_services: str
    file_containing_symbol: str
    def __init__(self, *, list_services: str = ..., file_containing_symbol: str = ...) -> None: ...

class ServiceResponse(message.Message):
    name: str

class ListServiceResponse(message.Message):
    @property
    def service(self) -> containers.RepeatedCompositeFieldContainer[ServiceResponse]: ...

class FileDescriptorResponse(message.Message):
    @property
    def file_descriptor_proto(self) -> containers.RepeatedScalarFieldContainer[bytes]: ...

class ServerReflectionResponse(message.Message):
    @property
    def list_services_response(self) -> ListServiceResponse: ...
    @property
    def file_descriptor_response(self) -> FileDescriptorResponse: ...
