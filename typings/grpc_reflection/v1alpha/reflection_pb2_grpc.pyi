import grpc.aio
from grpc_reflection.v1alpha import reflection, reflection_pb2

class ServerReflectionStub:
    def __init__(self, channel: grpc.aio.Channel) -> None: ...
    ServerReflectionInfo: grpc.aio.StreamStreamMultiCallable[
        reflection_pb2.ServerReflectionRequest, reflection_pb2.ServerReflectionResponse
    ]

def add_ServerReflectionServicer_to_server(
    servicer: reflection.aio.ReflectionServicer, server: grpc.aio.Server
) -> None: ...
