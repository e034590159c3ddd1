"""The id of the store's history.

A revision means nothing without the history it counts. The id is made once, by whoever comes
first, and stands in the store itself: a store that is made anew has another one.
"""

from __future__ import annotations

import asyncio
import random
import uuid

import structlog

from services.common.backoff import Backoff, BackoffPolicy
from services.common.errors import Unavailable
from services.common.etcd.client import EtcdClient
from services.common.etcd.keys import Keys
from services.common.etcd.types import Compare, Field, Get, Put, Relation

log = structlog.get_logger(__name__)

_RETRY = BackoffPolicy(initial=0.1, maximum=2.0)


async def ensure_epoch(client: EtcdClient, keys: Keys) -> str:
    """Returns the id, and makes one if there is none.

    It is the first that a service asks of the store, and waits until the store answers: services
    and store may start in any order, and the store may restart while a service does.
    """
    missing = Compare(keys.epoch, Field.CREATE, Relation.EQUAL, 0)
    backoff = Backoff(_RETRY, random.random)
    told = ""
    while True:
        made = str(uuid.uuid4())
        try:
            outcome = await client.transact(
                (missing,), (Put(keys.epoch, made.encode()),), (Get(keys.epoch),)
            )
        except Unavailable as error:
            # if it was carried out all the same, the next attempt finds it
            if error.message != told:
                log.warning("store_awaited", why=error.message)
                told = error.message
            await asyncio.sleep(backoff.failed())
        else:
            return made if outcome.succeeded else outcome.reads[0][0].value.decode()
