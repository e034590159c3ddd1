"""The part of etcd's kv.proto that services.common.etcd uses."""

from google.protobuf.message import Message

class KeyValue(Message):
    key: bytes
    create_revision: int
    mod_revision: int
    version: int
    value: bytes
    lease: int

class Event(Message):
    PUT: int
    DELETE: int
    type: int
    @property
    def kv(self) -> KeyValue: ...
