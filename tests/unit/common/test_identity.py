from __future__ import annotations

import pytest

from services.common.errors import Forbidden
from services.common.rpc.identity import (
    CALLER_TEXT,
    Caller,
    Role,
    caller_of,
    caller_text,
    check_node,
    on_behalf_of,
)
from tests.support.callers import Certificate


def test_without_tls_nobody_is_known_and_anybody_may_speak() -> None:
    assert caller_of(Certificate(tls=False).context) is None
    check_node(Certificate(tls=False).context, "n1")
    assert [key for key, _ in on_behalf_of(Certificate(tls=False).context)] == [CALLER_TEXT]


def test_roles_are_uris_of_the_certificate() -> None:
    names = ("n1.dc", "romana:node:n1", "romana:reader", "romana:operators", "romana:node:")
    assert caller_of(Certificate(*names).context) == Caller(
        frozenset({Role.NODE, Role.READER}), frozenset({"n1"})
    )


def test_tenants_are_uris_of_the_certificate() -> None:
    team = Certificate("romana:tenant:qa", "romana:tenant:test", "romana:tenant:")
    assert caller_of(team.context) == Caller(
        frozenset({Role.TENANT}), tenants=frozenset({"qa", "test"})
    )
    passed_on = Certificate("romana:service", metadata=on_behalf_of(team.context))
    assert caller_of(passed_on.context) == caller_of(team.context)


def test_a_nodes_certificate_is_no_teams() -> None:
    both = caller_of(Certificate("romana:node:n1", "romana:tenant:qa").context)
    assert both == Caller(frozenset({Role.NODE}), frozenset({"n1"}))


@pytest.mark.parametrize("name", ["n1", "node:n1", "romana:node:n", "romana:node:n11", ""])
def test_only_its_uri_speaks_for_a_node(name: str) -> None:
    with pytest.raises(Forbidden) as raised:
        check_node(Certificate(name).context, "n1")
    assert raised.value.reason == "NOT_THIS_NODE"
    check_node(Certificate(name, "romana:node:n1").context, "n1")


@pytest.mark.parametrize(
    ("certificate", "text"),
    [
        (Certificate(tls=False), "192.0.2.9"),
        (Certificate(tls=False, peer="ipv6:%5B2001:db8::9%5D:40000"), "2001:db8::9"),
        (Certificate(tls=False, peer="unix:/run/romana.sock"), "unix"),
        (Certificate("romana:operator", common_name="alice"), "alice, romana:operator"),
        (Certificate("romana:node:n1"), "romana:node:n1"),
        (Certificate("other"), "a certificate without names"),
        (Certificate(common_name="j\xfcrgen"), "j\\xfcrgen"),
    ],
)
def test_who_calls_is_said_in_logs(certificate: Certificate, text: str) -> None:
    assert caller_text(certificate.context) == text
    passed_on = on_behalf_of(certificate.context)
    assert caller_text(Certificate("romana:service", metadata=passed_on).context) == text
    assert caller_text(Certificate(tls=False, metadata=passed_on).context) == text
    liar = Certificate("romana:node:n2", common_name="n2", metadata=passed_on)
    assert caller_text(liar.context) == "n2, romana:node:n2"


def test_a_common_name_counts_for_nothing() -> None:
    certificate = Certificate(common_name="romana:operator")
    assert caller_of(certificate.context) == Caller()


def test_a_service_says_for_whom_it_passes_a_call_on() -> None:
    node = Certificate("romana:node:n1", "romana:reader")
    passed_on = Certificate("romana:service", metadata=on_behalf_of(node.context))
    assert caller_of(passed_on.context) == caller_of(node.context)


@pytest.mark.parametrize("role", ["romana:node:n1", "romana:reader", "romana:orchestrator", ""])
def test_nobody_else_speaks_for_another(role: str) -> None:
    forged = Certificate(role, metadata=(("x-romana-caller", "romana:operator"),))
    assert caller_of(forged.context) == caller_of(Certificate(role).context)
