"""The tables beside that of policy: those of the routing plan.

    inet romana_ways      packets get marks before they are routed
    ip romana_copies4     what the table of policy has marked for it is copied to a device
    ip6 romana_copies6    the same: nf_tables makes copies in tables of one family alone

The first is there whether policy is or not. A kernel without nf_tables translates nothing that it
could be about, and copies nothing, so there nothing is missed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, cast

import structlog

from services.agent.kernel.diff import KindChange
from services.agent.kernel.driver import Problems
from services.agent.kernel.netlink import KernelUnavailable, Problem
from services.agent.kernel.nftables.contents import Contents
from services.agent.kernel.nftables.driver import Nft, lacks_tables
from services.agent.kernel.nftables.table import Family, Found, TableName
from services.agent.kernel.nftables.table_diff import diff
from services.agent.kernel.state import Key, Kind, Value

log = structlog.get_logger(__name__)

TABLE: Final = "romana_ways"
COPIES: Final[Mapping[int, str]] = {4: "romana_copies4", 6: "romana_copies6"}
"""By family of addresses."""
_TABLES: Final = (
    TableName(TABLE),
    TableName(COPIES[4], Family.IP),
    TableName(COPIES[6], Family.IP6),
)


class Marking:
    """The driver."""

    kind = Kind.MARKING

    def __init__(self) -> None:
        self._tables: dict[str, Nft] = {}
        self._missed: dict[Key, Value] | None = None
        """What would be there if the kernel had nf_tables; None: it has."""

    def close(self) -> None:
        """Closes the sockets; the tables stay."""
        for table in self._tables.values():
            table.close()
        self._tables.clear()

    def read(self) -> Mapping[Key, Value]:
        if self._missed is not None:
            return self._missed
        try:
            found = {table.name: self._table(table.name).read() for table in _TABLES}
        except KernelUnavailable as error:
            if not lacks_tables(error):
                raise
            log.warning("no_marks", message="no nf_tables: what NAT translates is not led back")
            self._missed = {}
            return {}
        return {name: Contents.found(one) for name, one in found.items() if one is not None}

    def apply(self, step: KindChange) -> Problems:
        """Changes each in one transaction, or removes it."""
        if self._missed is not None:
            kept = {key: value for key, value in self._missed.items() if key not in step.removals}
            self._missed = {**kept, **step.additions, **step.replacements}
            return {}
        problems: dict[Key, Problem] = {}
        for key, value in {**step.additions, **step.replacements}.items():
            try:
                table, image = self._table(cast("str", key)), cast("Contents", value).image
                table.apply(diff(image, table.read() or Found()))
            except KernelUnavailable as error:
                problems[key] = Problem(0, str(error))
        for key in step.removals:
            try:
                self._table(cast("str", key)).remove()
            except KernelUnavailable as error:
                problems[key] = Problem(0, str(error))
        return problems

    def _table(self, name: str) -> Nft:
        if name not in self._tables:
            (table,) = (one for one in _TABLES if one.name == name)
            self._tables[name] = Nft(table)
        return self._tables[name]
