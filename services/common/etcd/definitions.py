"""etcd's API definitions, taken from the etcd3 package without its client.

etcd3 0.12.0 has been frozen since 2020 and its generated modules do not import with protobuf 4 or
later ("Descriptors cannot be created directly"). What they hold is sound: the descriptors as
serialized literals. This module reads these literals without importing the package, adds them to
the default descriptor pool and has protobuf build the modules, under their own names, so that
etcd3's `rpc_pb2_grpc` imports as it is.

The definitions are those of etcd 3.3. Fields that 3.4 added and that we use are added here, with
the numbers of etcd's own rpc.proto; a server of 3.3 would ignore them.

This is done on import, as it is by every generated module.
"""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.internal import builder

_PACKAGE = "etcd3"
_MODULES = ("kv_pb2", "auth_pb2", "rpc_pb2")
"""Each after those it imports."""
_SERIALIZED = re.compile(r"serialized_pb=_b\(('(?:[^'\\]|\\.)*')\)")


def _folder() -> Path:
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("the package etcd3 is not installed: pip install etcd3==0.12.0")
    return Path(spec.submodule_search_locations[0]) / "etcdrpc"


def _serialized(source: Path) -> bytes:
    """The file descriptor in a module generated for protobuf 3: `serialized_pb=_b('...')`.

    Found by its name: to parse the whole module would take a tenth of a second of every start.
    """
    found = _SERIALIZED.search(source.read_text(encoding="utf-8"))
    if found is None:
        raise ImportError(f"{source} holds no descriptor: is this etcd3 0.12.0?")
    return str(ast.literal_eval(found[1])).encode("latin1")


def _add_field(
    file: descriptor_pb2.FileDescriptorProto,
    message: str,
    name: str,
    number: int,
    type_name: str = "",
) -> None:
    """Adds a bool, or a message in the only oneof if `type_name` is given."""
    for candidate in file.message_type:
        if candidate.name != message:
            continue
        field = candidate.field.add(name=name, number=number)
        field.label = descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL
        if type_name:
            field.type = descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE
            field.type_name = type_name
            field.oneof_index = 0
        else:
            field.type = descriptor_pb2.FieldDescriptorProto.TYPE_BOOL


def _bring_to_3_4(file: descriptor_pb2.FileDescriptorProto) -> None:
    if file.name != "rpc.proto":
        return
    file.message_type.add(name="WatchProgressRequest")
    _add_field(file, "WatchCreateRequest", "fragment", 8)
    _add_field(file, "WatchResponse", "fragment", 7)
    _add_field(file, "WatchRequest", "progress_request", 3, ".etcdserverpb.WatchProgressRequest")


def _load() -> None:
    folder = _folder()
    pool = descriptor_pool.Default()
    for name in _MODULES:
        full_name = f"{_PACKAGE}.etcdrpc.{name}"
        if full_name in sys.modules:
            continue
        file = descriptor_pb2.FileDescriptorProto.FromString(_serialized(folder / f"{name}.py"))
        _bring_to_3_4(file)
        pool.AddSerializedFile(file.SerializeToString())
        descriptor = pool.FindFileByName(file.name)
        module = ModuleType(full_name)
        builder.BuildMessageAndEnumDescriptors(descriptor, module.__dict__)
        builder.BuildTopDescriptorsAndMessages(descriptor, full_name, module.__dict__)
        sys.modules[full_name] = module


_load()

from etcd3.etcdrpc import kv_pb2, rpc_pb2, rpc_pb2_grpc  # noqa: E402 they exist only now

__all__ = ["kv_pb2", "rpc_pb2", "rpc_pb2_grpc"]
