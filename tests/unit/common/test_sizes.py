"""Sizes that have to meet each other."""

from __future__ import annotations

from romana.ipam.v1 import ipam_service_pb2 as pb

from services.common import sizes
from services.common.etcd.keys import Keys
from services.common.etcd.types import Compare, Field, Operation, Put, Relation
from services.common.model.names import GroupPath, NetworkName
from services.common.rpc.status import StatusEncoder
from services.common.store.transactions import Room
from services.ipam.api import messages_out
from services.ipam.deciding.commands import Allocated
from services.ipam.model import ADDRESSES_MOST, AllocatedAddress
from services.policy.checks.policies import MAX_SIZE
from services.topology.checks.topology import MAX_DEPTH
from services.topology.store.claims import MAX_COMPARES

ADDRESS_TEXT = 48
"""Bytes of an address that was released, in the answer."""
KEYS = Keys("/a-root-that-is-long-for-one")
NAME = "n" * 63


def test_a_layout_goes_into_a_transaction_with_all_its_claims() -> None:
    path = GroupPath("/".join([NAME] * (MAX_DEPTH + 1)))
    claim = KEYS.group_claim(NetworkName(NAME), path)
    demands = [Compare(claim, Field.MOD, Relation.LESS, 1)] * MAX_COMPARES
    beside: list[Operation] = [Put(KEYS.generation, b"1")]
    assert Room(demands, beside).add((Put(KEYS.layout, b"x" * sizes.LAYOUT_BYTES),))
    assert len(demands) < sizes.TRANSACTION_OPERATIONS


def test_a_policy_goes_into_a_transaction() -> None:
    beside = [Put(KEYS.policy_generation, b"1"), Put(KEYS.policy_edition, b"1")]
    policy = Put(f"{KEYS.policies}{NAME}", b"x" * sizes.POLICY_BYTES)
    assert Room((), beside).add((policy,))
    assert MAX_SIZE * 2 <= sizes.POLICY_BYTES


def test_what_a_batch_may_bring_is_answered_in_one_message() -> None:
    """Whatever becomes of each item."""
    around = 16
    given = sizes.BATCH_ADDRESSES * sizes.ADDRESS_BYTES
    refused = sizes.BATCH_ITEMS * (sizes.STATUS_BYTES + around)
    assert given + refused <= sizes.ANSWER_BYTES < sizes.MESSAGE_BYTES
    assert sizes.BATCH_ITEMS * ADDRESSES_MOST * ADDRESS_TEXT + refused <= sizes.ANSWER_BYTES


def test_an_address_is_answered_in_the_room_it_has() -> None:
    given = AllocatedAddress((1 << 128) - 1, 128, NetworkName(NAME), (1 << 128) - 16, 124, 1 << 40)
    answer = pb.AllocateAddressesResponse()
    result = Allocated([given, given], existed=True)
    messages_out.ResultWriter(answer.results, StatusEncoder().status_of).add([result])
    assert answer.ByteSize() <= 2 * sizes.ADDRESS_BYTES
    assert len(given.text) + 4 <= ADDRESS_TEXT
