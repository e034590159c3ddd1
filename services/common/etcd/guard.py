"""Notices a store that is another one, or an older one, than it was before.

A member restored from a backup, or one of a cluster that was made anew behind the same address,
answers happily from a history in which our writes never happened. Linearizable answers carry a
revision at least that of every answer received before the request was sent; a smaller one, or
another cluster's id, is not to be believed.
"""

from __future__ import annotations

from services.common.etcd.definitions import rpc_pb2


class Guard:
    """What is known of the store's identity and age."""

    def __init__(self) -> None:
        self.revision = 0
        """The highest seen."""
        self._cluster = 0

    def objection(
        self, header: rpc_pb2.ResponseHeader, floor: int, *, linearizable: bool = True
    ) -> str:
        """Why the answer is not to be believed; empty if it is, and it is remembered.

        `floor` is our `revision` when the request was sent: answers overtake each other.
        """
        if self._cluster and header.cluster_id != self._cluster:
            return f"it belongs to cluster {header.cluster_id:x}, not {self._cluster:x}"
        if linearizable and header.revision < floor:
            return f"its revision went back from {floor} to {header.revision}"
        self._cluster = header.cluster_id
        if linearizable:
            self.revision = max(self.revision, header.revision)
        return ""
