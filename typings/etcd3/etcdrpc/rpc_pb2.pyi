"""The part of etcd's rpc.proto that services.common.etcd uses."""

from collections.abc import Iterable, Sequence
from typing import Literal

from etcd3.etcdrpc.kv_pb2 import Event, KeyValue
from google.protobuf.message import Message

class ResponseHeader(Message):
    cluster_id: int
    member_id: int
    revision: int
    raft_term: int

class RangeRequest(Message):
    def __init__(
        self,
        *,
        key: bytes = ...,
        range_end: bytes = ...,
        limit: int = ...,
        revision: int = ...,
        keys_only: bool = ...,
        count_only: bool = ...,
        min_mod_revision: int = ...,
    ) -> None: ...

class RangeResponse(Message):
    @property
    def header(self) -> ResponseHeader: ...
    @property
    def kvs(self) -> Sequence[KeyValue]: ...
    more: bool
    count: int

class PutRequest(Message):
    def __init__(self, *, key: bytes = ..., value: bytes = ..., lease: int = ...) -> None: ...

class PutResponse(Message):
    @property
    def header(self) -> ResponseHeader: ...

class DeleteRangeRequest(Message):
    def __init__(self, *, key: bytes = ..., range_end: bytes = ...) -> None: ...

class DeleteRangeResponse(Message):
    @property
    def header(self) -> ResponseHeader: ...
    deleted: int

class RequestOp(Message):
    def __init__(
        self,
        *,
        request_range: RangeRequest | None = ...,
        request_put: PutRequest | None = ...,
        request_delete_range: DeleteRangeRequest | None = ...,
    ) -> None: ...

class ResponseOp(Message):
    @property
    def response_range(self) -> RangeResponse: ...
    def WhichOneof(self, oneof_group: Literal["response"]) -> str | None: ...

class Compare(Message):
    EQUAL: int
    GREATER: int
    LESS: int
    VERSION: int
    CREATE: int
    MOD: int
    def __init__(
        self,
        *,
        result: int = ...,
        target: int = ...,
        key: bytes = ...,
        range_end: bytes = ...,
        version: int | None = ...,
        create_revision: int | None = ...,
        mod_revision: int | None = ...,
    ) -> None: ...

class TxnRequest(Message):
    def __init__(
        self,
        *,
        compare: Iterable[Compare] = ...,
        success: Iterable[RequestOp] = ...,
        failure: Iterable[RequestOp] = ...,
    ) -> None: ...

class TxnResponse(Message):
    @property
    def header(self) -> ResponseHeader: ...
    succeeded: bool
    @property
    def responses(self) -> Sequence[ResponseOp]: ...

class CompactionRequest(Message):
    def __init__(self, *, revision: int = ..., physical: bool = ...) -> None: ...

class CompactionResponse(Message):
    @property
    def header(self) -> ResponseHeader: ...

class WatchCreateRequest(Message):
    def __init__(
        self,
        *,
        key: bytes = ...,
        range_end: bytes = ...,
        start_revision: int = ...,
        progress_notify: bool = ...,
        fragment: bool = ...,
    ) -> None: ...

class WatchProgressRequest(Message): ...

class WatchRequest(Message):
    def __init__(
        self,
        *,
        create_request: WatchCreateRequest | None = ...,
        progress_request: WatchProgressRequest | None = ...,
    ) -> None: ...

class WatchResponse(Message):
    @property
    def header(self) -> ResponseHeader: ...
    watch_id: int
    created: bool
    canceled: bool
    compact_revision: int
    cancel_reason: str
    fragment: bool
    @property
    def events(self) -> Sequence[Event]: ...

class LeaseGrantRequest(Message):
    def __init__(self, *, TTL: int = ..., ID: int = ...) -> None: ...  # noqa: N803

class LeaseGrantResponse(Message):
    @property
    def header(self) -> ResponseHeader: ...
    ID: int
    TTL: int
    error: str

class LeaseRevokeRequest(Message):
    def __init__(self, *, ID: int = ...) -> None: ...  # noqa: N803

class LeaseRevokeResponse(Message):
    @property
    def header(self) -> ResponseHeader: ...

class LeaseKeepAliveRequest(Message):
    def __init__(self, *, ID: int = ...) -> None: ...  # noqa: N803

class LeaseKeepAliveResponse(Message):
    @property
    def header(self) -> ResponseHeader: ...
    ID: int
    TTL: int

class StatusRequest(Message):
    def __init__(self) -> None: ...

class StatusResponse(Message):
    @property
    def header(self) -> ResponseHeader: ...
    version: str
    dbSize: int  # noqa: N815
    leader: int
    raftIndex: int  # noqa: N815
    raftTerm: int  # noqa: N815
