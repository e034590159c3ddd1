from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.agent.kernel import endpoint_names
from services.common.model.names import EndpointName

NAMES = st.text(min_size=1, max_size=253).filter(lambda text: len(text.encode()) <= 253)


@given(NAMES)
def test_what_follows_from_a_name_is_what_the_kernel_takes(text: str) -> None:
    name = EndpointName(text)
    interface = endpoint_names.host_interface(name)
    assert len(interface.encode()) <= 15
    assert endpoint_names.is_host_interface(interface)
    assert len(endpoint_names.alias(name).encode()) <= 255
    first = int(endpoint_names.mac_address(name)[:2], 16)
    assert first & 3 == 2
    assert "/" not in endpoint_names.file_name(name)
    assert len(endpoint_names.file_name(name)) < 100
    assert not endpoint_names.file_name(name).startswith(".")


@given(st.lists(NAMES, unique=True, max_size=20))
def test_different_names_give_different_things(texts: list[str]) -> None:
    names = [EndpointName(text) for text in texts]
    for make in (
        endpoint_names.host_interface,
        endpoint_names.mac_address,
        endpoint_names.file_name,
    ):
        assert len({make(name) for name in names}) == len(names)


def test_others_interfaces_are_not_taken_for_ours() -> None:
    for interface in ("eth0", "rom0", "romana", "romABCDEFGHIJKL", "rom" + "1" * 12):
        assert not endpoint_names.is_host_interface(interface)
