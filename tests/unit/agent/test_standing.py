"""How endpoints stand: what withdraws one, and what brings it back."""

from __future__ import annotations

from ipaddress import ip_address

from services.agent.endpoints.standing import Concern, Standing
from services.agent.model import EndpointAddress, LocalEndpoint
from services.common.model.names import EndpointName, NetworkName, Segment, Tenant
from tests.fakes.reconciler import FakeReconciler

A, B = EndpointName("a"), EndpointName("b")


def endpoint(name: EndpointName, *addresses: str) -> LocalEndpoint:
    given = tuple(EndpointAddress(ip_address(text), NetworkName("n")) for text in addresses)
    return LocalEndpoint(name, Tenant("t"), Segment(""), f"rom{name}", given)


def standing() -> tuple[Standing, FakeReconciler]:
    kernel = FakeReconciler()
    made = Standing(kernel)
    made.put(endpoint(A, "10.0.0.1", "fd00::1"))
    return made, kernel


def holders(made: Standing, name: EndpointName, *addresses: str) -> list[EndpointName]:
    return [found.name for found in made.holders(endpoint(name, *addresses).addresses, name)]


def test_only_when_all_that_withdraws_it_is_gone_routes_lead_there_again() -> None:
    made, kernel = standing()
    made.note(A, Concern.LINK, "it is gone", withdraw=True)
    made.note(A, Concern.OWNERSHIP, "it is another's", withdraw=True)
    made.note(A, Concern.CONDITION, "it is bent", withdraw=False)
    assert list(kernel.endpoints) == []
    assert made.problem(A) == "it is gone; it is another's; it is bent"
    assert not made.clear(A, Concern.LINK)
    made.put(endpoint(A, "10.0.0.1"))
    assert list(kernel.endpoints) == []
    assert made.clear(A, Concern.OWNERSHIP)
    assert list(kernel.endpoints) == [A]
    assert not made.clear(A, Concern.CONDITION)
    assert made.problem(A) == ""


def test_what_does_not_withdraw_it_is_shown_only() -> None:
    made, kernel = standing()
    made.note(A, Concern.CONDITION, "it is bent", withdraw=False)
    kernel.failures = {"endpoint/a": "refused", "endpoint/b": "another's"}
    assert list(kernel.endpoints) == [A]
    assert made.problem(A) == "it is bent; refused"


def test_an_endpoint_that_is_gone_leaves_no_trouble() -> None:
    made, kernel = standing()
    made.note(A, Concern.LINK, "it is gone", withdraw=True)
    made.drop(A)
    made.put(endpoint(A, "10.0.0.1"))
    assert (made.problem(A), list(kernel.endpoints)) == ("", [A])


def test_who_has_an_address_in_use() -> None:
    made, _ = standing()
    assert holders(made, B, "10.0.0.1", "10.0.0.2", "fd00::1") == [A]
    assert holders(made, A, "10.0.0.1") == []
    made.note(A, Concern.OWNERSHIP, "it is another's", withdraw=True)
    assert holders(made, B, "10.0.0.1") == []
    made.put(endpoint(B, "10.0.0.1"))
    made.clear(A, Concern.OWNERSHIP)
    made.put(endpoint(A, "10.0.0.3"))
    assert holders(made, EndpointName("c"), "10.0.0.3", "fd00::1") == [A]
    made.drop(A)
    assert holders(made, EndpointName("c"), "10.0.0.3") == []
