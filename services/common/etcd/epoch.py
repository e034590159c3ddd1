"""The id of the store's history.

A revision means nothing without the history it counts. The id is made once, by whoever comes
first, and stands in the store itself: a store that is made anew has another one.
"""

from __future__ import annotations

import uuid

from services.common.etcd.client import EtcdClient
from services.common.etcd.errors import OutcomeUnknown
from services.common.etcd.keys import Keys
from services.common.etcd.types import Compare, Field, Get, Put, Relation

_ATTEMPTS = 3


async def ensure_epoch(client: EtcdClient, keys: Keys) -> str:
    """Returns the id, and makes one if there is none; raises Unavailable."""
    missing = Compare(keys.epoch, Field.CREATE, Relation.EQUAL, 0)
    for attempt in range(1, _ATTEMPTS + 1):
        made = str(uuid.uuid4())
        try:
            outcome = await client.transact(
                (missing,), (Put(keys.epoch, made.encode()),), (Get(keys.epoch),)
            )
        except OutcomeUnknown:
            # if it was carried out, the next attempt finds it
            if attempt == _ATTEMPTS:
                raise
            continue
        return made if outcome.succeeded else outcome.reads[0][0].value.decode()
    raise AssertionError("the last attempt returns or raises")
