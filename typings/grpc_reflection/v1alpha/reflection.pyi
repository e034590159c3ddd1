from collections.abc import AsyncIterable, AsyncIterator, Iterable

import grpc.aio
from grpc_reflection.v1alpha import reflection_pb2

SERVICE_NAME: str

class aio:  # noqa: N801
    class ReflectionServicer:
        def __init__(self, service_names: Iterable[str]) -> None: ...
        def ServerReflectionInfo(
            self,
            request_iterator: AsyncIterable[reflection_pb2.ServerReflectionRequest],
            unused_context: grpc.aio.ServicerContext[
                reflection_pb2.ServerReflectionRequest, reflection_pb2.ServerReflectionResponse
            ],
        ) -> AsyncIterator[reflection_pb2.ServerReflectionResponse]: ...
