"""Objects as their records have them: the API's messages as JSON, without what is output only."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

OUTPUT_ONLY: Final[Mapping[str, tuple[str, ...]]] = {
    "romana.topology.v1.Node": (
        "placements",
        "networks",
        "create_time",
        "etag",
        "self_reported",
    ),
    "romana.ipam.v1.Reservation": ("size", "in_use"),
    "romana.policy.v1.Policy": ("etag", "create_time", "update_time"),
    "romana.policy.v1.Tenant": ("etag",),
    "romana.policy.v1.DeviceGroup": ("etag",),
}
"""What changes without anybody's change, or is Romana's to say."""


def said(message: Message) -> Message:
    """The message without what is output only."""
    copy = type(message)()
    copy.CopyFrom(message)
    for name in OUTPUT_ONLY.get(copy.DESCRIPTOR.full_name, ()):
        copy.ClearField(name)
    return copy


def document(message: Message) -> str:
    """What was said of an object, always in the same spelling."""
    plain = MessageToDict(said(message), preserving_proto_field_name=True)
    return json.dumps(plain, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
