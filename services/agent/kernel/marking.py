"""The table `inet romana_ways`, by which packets get marks before they are routed.

It is there whether policy is or not. A kernel without nf_tables translates nothing that it could be
about, so there nothing is missed.
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
from services.agent.kernel.nftables.table import Found
from services.agent.kernel.nftables.table_diff import diff
from services.agent.kernel.state import Key, Kind, Value

log = structlog.get_logger(__name__)

TABLE: Final = "romana_ways"


class Marking:
    """The driver."""

    kind = Kind.MARKING

    def __init__(self) -> None:
        self._nft: Nft | None = None
        self._missed: dict[Key, Value] | None = None
        """What would be there if the kernel had nf_tables; None: it has."""

    def close(self) -> None:
        """Closes the socket; the table stays."""
        if self._nft is not None:
            self._nft.close()
        self._nft = None

    def read(self) -> Mapping[Key, Value]:
        if self._missed is not None:
            return self._missed
        try:
            found = self._table.read()
        except KernelUnavailable as error:
            if not lacks_tables(error):
                raise
            log.warning("no_marks", message="no nf_tables: what NAT translates is not led back")
            self._missed = {}
            return {}
        return {} if found is None else {TABLE: Contents.found(found)}

    def apply(self, step: KindChange) -> Problems:
        """Changes it in one transaction, or removes it."""
        if self._missed is not None:
            self._missed = {**step.additions, **step.replacements}
            return {}
        try:
            for value in {**step.additions, **step.replacements}.values():
                image = cast("Contents", value).image
                self._table.apply(diff(image, self._table.read() or Found()))
            if step.removals:
                self._table.remove()
        except KernelUnavailable as error:
            return {TABLE: Problem(0, str(error))}
        return {}

    @property
    def _table(self) -> Nft:
        if self._nft is None:
            self._nft = Nft(TABLE)
        return self._nft
