"""Of several addresses of a service the first that is there is called."""

from __future__ import annotations

import asyncio
import socket
from contextlib import closing

import pytest

from services.common.errors import InvalidInput
from services.ctl.calls.choosing import choose, each
from services.ctl.calls.service_addresses import ServiceAddresses


def test_the_first_that_takes_a_connection_is_chosen() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        there = f"127.0.0.1:{listening.getsockname()[1]}"
        with closing(socket.socket()) as closed:
            closed.bind(("127.0.0.1", 0))  # bound, and nobody listens
            away = f"127.0.0.1:{closed.getsockname()[1]}"
            named = ServiceAddresses(f"{away}, {there}", f"{there},{away}", away)
            found = asyncio.run(choose(named))
            nobody = asyncio.run(choose(ServiceAddresses(f"{away},{away}", away, away)))
    assert (found.topology, found.ipam, found.policy) == (there, there, away)
    assert nobody.topology == away


@pytest.mark.parametrize("wrong", [",", "a:1,b", "a:1,:x"])
def test_what_is_no_address_is_refused(wrong: str) -> None:
    with pytest.raises(InvalidInput):
        each(wrong)
