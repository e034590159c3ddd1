from __future__ import annotations

from typing import cast

import pytest

from services.common.errors import Forbidden
from services.common.rpc.identity import Context, check_node, names_of


class Caller:
    def __init__(self, **auth: list[bytes]) -> None:
        self._auth = auth

    def auth_context(self) -> dict[str, list[bytes]]:
        return self._auth


def caller(**auth: list[bytes]) -> Context:
    return cast("Context", Caller(**auth))


def test_without_tls_nobody_is_known_and_anybody_may_speak() -> None:
    assert names_of({"transport_security_type": [b"insecure"]}) is None
    check_node(caller(transport_security_type=[b"insecure"]), "n1")
    check_node(caller(), "n1")


@pytest.mark.parametrize("field", ["x509_common_name", "x509_subject_alternative_name"])
def test_a_certificate_speaks_for_the_node_it_names(field: str) -> None:
    check_node(caller(transport_security_type=[b"ssl"], **{field: [b"n1", b"n1.dc"]}), "n1")


def test_a_certificate_speaks_for_no_other_node() -> None:
    context = caller(transport_security_type=[b"ssl"], x509_common_name=[b"n2"])
    with pytest.raises(Forbidden) as raised:
        check_node(context, "n1")
    assert raised.value.reason == "NOT_THIS_NODE"


def test_a_certificate_without_names_speaks_for_none() -> None:
    with pytest.raises(Forbidden):
        check_node(caller(transport_security_type=[b"ssl"]), "n1")


def test_a_uri_names_a_node_too() -> None:
    names = {"x509_subject_alternative_name": [b"romana:node:n1"]}
    check_node(caller(transport_security_type=[b"ssl"], **names), "n1")
    with pytest.raises(Forbidden):
        check_node(caller(transport_security_type=[b"ssl"], **names), "n")
