"""Ipam's objects as records of changes have them."""

from __future__ import annotations

from typing import Final

from romana.ipam.v1 import block_pb2

from services.common.audit.documents import document
from services.common.audit.record import ObjectKind
from services.common.audit.writer import Texts
from services.common.rpc.models import to_message
from services.ipam.ledger.ground import Reservation


def _reservation(value: Reservation) -> str:
    return document(to_message(block_pb2.Reservation, value))


TEXTS: Final[Texts] = {ObjectKind.RESERVATION: _reservation}
