"""Packets that rules denied, by Prometheus: it scrapes the agents that count them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import httpx2
import msgspec

from services.common.errors import Unavailable

WINDOW: Final = "5m"
MOST: Final = 100
SECONDS: Final = 5.0
QUERY: Final = (
    f"topk({MOST}, sum by (policy, direction, rule)"
    f" (rate(romana_agent_policy_rule_packets_total[{WINDOW}])) > 0)"
)


@dataclass(frozen=True, slots=True)
class RuleRate:
    """How often a rule decides."""

    policy: str
    direction: str
    rule: str
    per_second: float
    """Packets: the first ones of connections."""


class _Sample(msgspec.Struct):
    metric: dict[str, str]
    value: tuple[float, str]


class _Data(msgspec.Struct):
    result: list[_Sample]


class _Answer(msgspec.Struct):
    status: str
    data: _Data


class Prometheus:
    """Its HTTP API, https://prometheus.io/docs/prometheus/latest/querying/api/."""

    def __init__(self, address: str) -> None:
        """Connects when something is asked."""
        self._client = httpx2.AsyncClient(base_url=address, timeout=SECONDS, trust_env=False)

    async def close(self) -> None:
        """Closes its connections."""
        await self._client.aclose()

    async def rates(self) -> list[RuleRate]:
        """The rules that decided most often, most first; raises Unavailable."""
        try:
            answer = await self._client.get("/api/v1/query", params={"query": QUERY})
            answer.raise_for_status()
            read = msgspec.json.decode(answer.content, type=_Answer)
        except (httpx2.HTTPError, msgspec.MsgspecError) as error:
            raise Unavailable(
                f"Prometheus does not say: {error}", "PROMETHEUS_UNAVAILABLE"
            ) from error
        found = [
            RuleRate(
                each.metric.get("policy", ""),
                each.metric.get("direction", ""),
                each.metric.get("rule", ""),
                float(each.value[1]),
            )
            for each in read.data.result
        ]
        return sorted(found, key=lambda each: -each.per_second)
