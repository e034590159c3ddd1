"""Whether a node's agent is there: a node in use is not removed by force while it is.

Ipam, which has the agents' streams, writes down who has one. What nobody says is not known: while
no replica of ipam is there, an agent may be there all the same.
"""

from __future__ import annotations

from dataclasses import dataclass

from services.common.errors import WrongState
from services.common.etcd.client import EtcdClient
from services.common.etcd.keys import Keys
from services.common.etcd.types import Compare, Field, Get, Relation
from services.common.model.names import NodeName


@dataclass(frozen=True, slots=True)
class AgentPresence:
    """What ipam says of one node's agent."""

    connected: bool = False
    known: bool = False
    """A replica of ipam is there to say so."""


async def look(name: NodeName, client: EtcdClient, keys: Keys) -> AgentPresence:
    """Reads it; raises Unavailable."""
    reads = (Get(keys.streams_of(name), prefix=True), Get(keys.leader, prefix=True))
    streams, candidates = (await client.transact((), reads)).reads
    return AgentPresence(bool(streams), bool(candidates))


def refuse(name: NodeName, seen: AgentPresence, *, machine_is_off: bool) -> None:
    """Raises WrongState unless the node may lose what is in use on it."""
    metadata = {"node": name, "field": "force"}
    if seen.connected:
        raise WrongState(
            f"the agent of {name!r} has a stream to ipam: what runs there would lose its addresses "
            "to others. Drain the node and delete it without force, or stop its agent first",
            reason="NODE_CONNECTED",
            metadata=metadata,
        )
    if not (seen.known or machine_is_off):
        raise WrongState(
            f"no replica of ipam says whether the agent of {name!r} is there: try again when one "
            "does, or say that the machine is off",
            reason="AGENT_NOT_KNOWN",
            metadata=metadata,
        )


def demands(name: NodeName, keys: Keys, *, machine_is_off: bool) -> list[Compare]:
    """Demands that `refuse` would not raise."""
    absent = Compare(keys.streams_of(name), Field.CREATE, Relation.EQUAL, 0, prefix=True)
    if machine_is_off:
        return [absent]
    return [absent, Compare(keys.leader, Field.CREATE, Relation.GREATER, 0, prefix=True)]
