"""What is done at the start with pairs that no record knows."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from services.agent.endpoints.recovery import Recovery
from services.agent.endpoints.spec import Record, Stage, unknown
from services.agent.kernel.endpoint_names import host_interface
from services.common.model.names import EndpointName

WEB = EndpointName("web-1")


@pytest.mark.parametrize(("attached_meanwhile", "deleted"), [(False, True), (True, False)])
async def test_a_stray_pair_is_deleted_unless_its_endpoint_is_attached_while_ipam_is_asked(
    *, attached_meanwhile: bool, deleted: bool
) -> None:
    records: dict[EndpointName, Record] = {}
    gone: list[str] = []

    class Records:
        all = records

        def load(self) -> None:
            return

        def __len__(self) -> int:
            return len(records)

    class Links:
        async def ours(self) -> list[Any]:
            return [SimpleNamespace(name=host_interface(WEB), alias="")]

        async def delete(self, interface: str) -> None:
            gone.append(interface)

    class Ipam:
        async def on_node(self, _deadline: float) -> dict[str, object]:
            if attached_meanwhile:
                records[WEB] = Record(unknown(WEB), Stage.BEGUN)
            return {}

    parts = (None, Records(), Links(), Ipam(), None, None)
    await Recovery(*cast("Any", parts), look=5.0).restore()
    assert bool(gone) is deleted
