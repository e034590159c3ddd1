from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.agent import naming
from services.common.model.names import EndpointName

NAMES = st.text(min_size=1, max_size=253).filter(lambda text: len(text.encode()) <= 253)


@given(NAMES)
def test_what_follows_from_a_name_is_what_the_kernel_takes(text: str) -> None:
    name = EndpointName(text)
    interface = naming.host_interface(name)
    assert len(interface.encode()) <= 15
    assert naming.is_host_interface(interface)
    assert len(naming.alias(name).encode()) <= 255
    first = int(naming.mac_address(name)[:2], 16)
    assert first & 3 == 2
    assert "/" not in naming.file_name(name)
    assert len(naming.file_name(name)) < 100
    assert not naming.file_name(name).startswith(".")


@given(st.lists(NAMES, unique=True, max_size=20))
def test_different_names_give_different_things(texts: list[str]) -> None:
    names = [EndpointName(text) for text in texts]
    for make in (naming.host_interface, naming.mac_address, naming.file_name):
        assert len({make(name) for name in names}) == len(names)


def test_others_interfaces_are_not_taken_for_ours() -> None:
    for interface in ("eth0", "rom0", "romana", "romABCDEFGHIJKL", "rom" + "1" * 12):
        assert not naming.is_host_interface(interface)
