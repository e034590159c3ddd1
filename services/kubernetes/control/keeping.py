"""Has addresses that stay with a pod's name come along to the node of the next pod of that name."""

from __future__ import annotations

import structlog

from services.common.errors import NotFound, WrongState
from services.common.model.names import NodeName
from services.kubernetes.calls.ipam import IpamCalls
from services.kubernetes.cluster.recorder import Recorder
from services.kubernetes.control import notes
from services.kubernetes.objects.pods import Pod
from services.kubernetes.wanted.values import WantedEndpoint

log = structlog.get_logger(__name__)


class Keeping:
    """Moves them, or says why not."""

    def __init__(self, ipam: IpamCalls, recorder: Recorder) -> None:
        self._ipam = ipam
        self._recorder = recorder

    async def bring(self, pod: Pod, endpoint: WantedEndpoint, node: NodeName) -> None:
        """Has nothing elsewhere any more that a pod's name has: what cannot come along is given
        back, so that the pod gets others. Raises RomanaErrors."""
        if not endpoint.allocation:
            return
        try:
            await self._ipam.move(endpoint.allocation, node)
        except NotFound:
            return  # it has none yet
        except WrongState as error:
            log.info("addresses_not_kept", pod=pod.key, message=error.message)
            self._recorder.note(notes.not_kept(pod, error))
            await self._ipam.release(endpoint.allocation)
