"""Sizes that have to meet each other."""

from __future__ import annotations

from services.common import sizes
from services.common.etcd.keys import Keys
from services.common.etcd.types import Compare, Field, Operation, Put, Relation
from services.common.model.names import GroupPath, NetworkName
from services.common.store.transactions import Room
from services.policy.checks.policies import MAX_SIZE
from services.topology.checks.topology import MAX_DEPTH
from services.topology.store.claims import MAX_COMPARES

KEYS = Keys("/a-root-that-is-long-for-one")
NAME = "n" * 63


def test_a_layout_goes_into_a_transaction_with_all_its_claims() -> None:
    path = GroupPath("/".join([NAME] * (MAX_DEPTH + 1)))
    claim = KEYS.group_claim(NetworkName(NAME), path)
    demands = [Compare(claim, Field.MOD, Relation.LESS, 1)] * MAX_COMPARES
    beside: list[Operation] = [Put(KEYS.generation, b"1")]
    assert Room(demands, beside).take((Put(KEYS.layout, b"x" * sizes.LAYOUT_BYTES),))
    assert len(demands) < sizes.TRANSACTION_OPERATIONS


def test_a_policy_goes_into_a_transaction() -> None:
    beside = [Put(KEYS.policy_generation, b"1"), Put(KEYS.policy_edition, b"1")]
    policy = Put(f"{KEYS.policies}{NAME}", b"x" * sizes.POLICY_BYTES)
    assert Room((), beside).take((policy,))
    assert MAX_SIZE * 2 <= sizes.POLICY_BYTES


def test_what_a_request_may_bring_is_answered_in_one_message() -> None:
    assert sizes.ANSWER_BYTES < sizes.MESSAGE_BYTES
