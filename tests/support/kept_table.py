"""The table of an agent without a kernel: what it would have made of the rules that it took."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from romana.policy.v1 import sync_rules_pb2 as pb

from services.agent.kernel.nftables.table import Found, Image
from services.agent.rules.compose import Composer, LocalInterface
from services.agent.rules.in_kernel import InKernel, compare
from services.agent.rules.messages import kernel_parts, parse_resource
from services.agent.streams.answering import answering
from services.common.model.failsafe import Failsafe
from services.common.model.rules import EndpointRules
from services.common.sync.stream_client import Answering


class KeptTable:
    """Answers for an agent; somebody may take a rule away."""

    def __init__(self, held: Callable[[], Mapping[str, pb.RuleResource]]) -> None:
        """`held`: what the agent has taken."""
        self._held = held
        self.lost = ""
        """Note of rules that somebody has taken away."""

    async def look(self) -> InKernel:
        composer = Composer(Failsafe(), None)
        taken = {
            name: parse_resource(item.SerializeToString()) for name, item in self._held().items()
        }
        found = {name: one for name, one in taken.items() if name.split("/")[0] != "wanted"}
        composer.update(found, ())  # type: ignore[arg-type]  # nothing else is left
        for number, one in enumerate(found.values()):
            if isinstance(one, EndpointRules):
                local = LocalInterface(f"rom{number}", one.addresses, instance=one.instance)
                composer.put_local(one.name, local)
        composer.refresh()
        image = composer.image()
        return compare(image, composer.counters, self._made(image), {})

    def _made(self, image: Image) -> Found:
        return Found(
            {
                name: (
                    chain.base,
                    tuple(
                        rule.tag for rule in chain.rules if rule.note != self.lost or not rule.note
                    ),
                )
                for name, chain in image.chains.items()
            },
            image.sets,
            frozenset(image.counters),
            {name: image.elements.get(name, {}) for name in image.sets},
        )

    @property
    def answering(self) -> Answering:
        return answering(
            self.look, kernel_parts, pb.KernelRules, lambda part: pb.SyncRulesRequest(kernel=part)
        )
