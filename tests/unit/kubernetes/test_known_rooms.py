from __future__ import annotations

from romana.ipam.v1 import utilization_pb2
from romana.ipam.v1.ipam_service_pb2 import EvaluateGroupsResponse

from services.common.model.names import GroupPath, NetworkName
from services.kubernetes.calls.known_rooms import KnownRooms
from services.kubernetes.scheduling.rooms import Lack

BLUE = NetworkName("blue")


def answer(
    state: str, free: int, *, is_partial: bool = False, **holders: int
) -> EvaluateGroupsResponse:
    refusal = utilization_pb2.NetworkRefusal(
        network="blue", refusal=utilization_pb2.REFUSAL_RESTING, group="dc/one"
    )
    return EvaluateGroupsResponse(
        groups=[
            utilization_pb2.GroupEvaluation(
                network="blue",
                group="dc/one",
                free_addresses=free,
                refusal=None if free else refusal,
            )
        ],
        holders=[
            utilization_pb2.HolderEvaluation(network="blue", node=node, free_addresses=count)
            for node, count in holders.items()
        ],
        state=state,
        is_partial=is_partial,
    )


def test_what_is_different_is_added_to_what_is_known() -> None:
    known = KnownRooms()
    known.take(answer("1", 8, a=3, b=2))
    rooms = known.take(answer("2", 0, is_partial=True, b=0, c=1))
    assert known.state == "2"
    assert rooms.held == {BLUE: {"a": 3, "c": 1}}
    assert rooms.free == {(BLUE, GroupPath("dc/one")): 0}
    assert rooms.lacks == {(BLUE, GroupPath("dc/one")): Lack.RESTING}


def test_an_address_may_be_of_another_group_or_of_another_network() -> None:
    outside = utilization_pb2.NetworkRefusal(
        network="blue", refusal=utilization_pb2.REFUSAL_ADDRESS_OUTSIDE
    )
    group = utilization_pb2.GroupEvaluation(network="green", group="dc/one", refusal=outside)
    rooms = KnownRooms().take(EvaluateGroupsResponse(groups=[group], refusals=[outside]))
    assert rooms.lacks == {(NetworkName("green"), GroupPath("dc/one")): Lack.ADDRESS_OUTSIDE}
    assert rooms.excluded == {BLUE: Lack.OTHER_NETWORK}


def test_a_whole_answer_replaces_what_is_known() -> None:
    known = KnownRooms()
    before = known.take(answer("1", 8, a=3))
    after = known.take(answer("other", 8, b=2))
    assert (known.state, after.held) == ("other", {BLUE: {"b": 2}})
    assert before.held == {BLUE: {"a": 3}}
