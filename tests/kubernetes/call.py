"""Calls a method of a service: `python -m tests.kubernetes.call ADDRESS METHOD JSON`.

Run in a host of the cluster, since gRPC opens its sockets in threads of its own.
"""

from __future__ import annotations

import asyncio
import importlib
import sys

from google.protobuf import json_format
from google.rpc import error_details_pb2  # noqa: F401  # what statuses may have inside
from romana.ipam.v1 import utilization_pb2  # noqa: F401  # the same

from services.common.rpc.channel import open_channel


async def call(address: str, method: str, body: str) -> str:
    package, _, name = method.rpartition("/")
    service = package.rpartition(".")[2]
    folder = service.removesuffix("Service").lower()
    stem = f"romana.{folder}.v1.{folder}_service_pb2"
    messages = importlib.import_module(stem)
    request = json_format.Parse(body, getattr(messages, f"{name}Request")())
    async with open_channel(address, insecure=True) as channel:
        stub = getattr(importlib.import_module(f"{stem}_grpc"), f"{service}Stub")(channel)
        answer = await getattr(stub, name)(request, timeout=10)
    return json_format.MessageToJson(answer, preserving_proto_field_name=True)


if __name__ == "__main__":
    print(asyncio.run(call(*sys.argv[1:])))
