"""The stubs of etcd's services, on channels of grpc.aio."""

from etcd3.etcdrpc import rpc_pb2
from grpc.aio import Channel, StreamStreamMultiCallable, UnaryUnaryMultiCallable

class KVStub:
    def __init__(self, channel: Channel) -> None: ...
    Range: UnaryUnaryMultiCallable[rpc_pb2.RangeRequest, rpc_pb2.RangeResponse]
    Txn: UnaryUnaryMultiCallable[rpc_pb2.TxnRequest, rpc_pb2.TxnResponse]
    Compact: UnaryUnaryMultiCallable[rpc_pb2.CompactionRequest, rpc_pb2.CompactionResponse]

class WatchStub:
    def __init__(self, channel: Channel) -> None: ...
    Watch: StreamStreamMultiCallable[rpc_pb2.WatchRequest, rpc_pb2.WatchResponse]

class LeaseStub:
    def __init__(self, channel: Channel) -> None: ...
    LeaseGrant: UnaryUnaryMultiCallable[rpc_pb2.LeaseGrantRequest, rpc_pb2.LeaseGrantResponse]
    LeaseRevoke: UnaryUnaryMultiCallable[rpc_pb2.LeaseRevokeRequest, rpc_pb2.LeaseRevokeResponse]
    LeaseKeepAlive: StreamStreamMultiCallable[
        rpc_pb2.LeaseKeepAliveRequest, rpc_pb2.LeaseKeepAliveResponse
    ]

class MaintenanceStub:
    def __init__(self, channel: Channel) -> None: ...
    Status: UnaryUnaryMultiCallable[rpc_pb2.StatusRequest, rpc_pb2.StatusResponse]
