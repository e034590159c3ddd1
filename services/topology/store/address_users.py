"""Who has an address, by the page of the store that says so: memory keeps no names."""

from __future__ import annotations

from dataclasses import replace

from services.common.errors import RomanaError
from services.common.etcd.client import EtcdClient
from services.common.etcd.keys import Keys
from services.common.records.blocks import PAGE_BITS, decode_page
from services.common.records.errors import RecordError
from services.topology.layout.own_addresses import AddressInUse


async def named(error: AddressInUse, client: EtcdClient, keys: Keys) -> RomanaError:
    """The error with the name of who has the address, unless it was just released.

    Raises Unavailable.
    """
    use = error.use
    assert use is not None
    page = use.offset >> PAGE_BITS
    item = await client.get(keys.block(use.network, use.base, page, use.bits))
    try:
        uses = decode_page(item.value).used if item is not None else ()
    except RecordError:
        uses = ()
    name = next((one.name for one in uses if one.offset == use.offset), None)
    if name is None:
        return error
    return replace(
        error,
        message=f"{error.message} by {name!r}: release that first",
        metadata={**error.metadata, "name": name},
    )
