"""Policy's objects as records of changes have them."""

from __future__ import annotations

from typing import Final

from services.common.audit.documents import document
from services.common.audit.record import ObjectKind
from services.common.audit.writer import Texts
from services.policy.api import device_messages, messages_out
from services.policy.model import Policy, TenantRecord
from services.policy.store.codec import Stored
from services.policy.store.codec_devices import StoredGroup
from services.policy.store.entry import Entry


def _policy(value: Policy) -> str:
    return document(messages_out.policy(Entry(Stored(value, 0, 0), 0)))


def _tenant(value: TenantRecord) -> str:
    return document(messages_out.tenant(Entry(value, 0)))


def _device_group(value: StoredGroup) -> str:
    return document(device_messages.group(Entry(value, 0)))


TEXTS: Final[Texts] = {
    ObjectKind.POLICY: _policy,
    ObjectKind.TENANT: _tenant,
    ObjectKind.DEVICE_GROUP: _device_group,
}
