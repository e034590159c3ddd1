from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from services.agent.endpoints.observers import Operation, Result, watched
from services.agent.metrics import AgentMetrics
from services.common.errors import Exhausted, InvalidInput, NotFound, Unavailable


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, Result.OK),
        (Exhausted("full", "GROUP_FULL"), Result.EXHAUSTED),
        (Unavailable("away", "ATTACH_TIMEOUT"), Result.UNAVAILABLE),
        (NotFound("none", "NAMESPACE_NOT_FOUND"), Result.REFUSED),
        (InvalidInput.at("spec.mtu", "is too much"), Result.REFUSED),
        (ValueError("a defect"), Result.FAILED),
    ],
)
def test_each_operation_is_counted_once_by_its_outcome(
    error: Exception | None, outcome: Result
) -> None:
    registry = CollectorRegistry()
    metrics = AgentMetrics(registry)

    def attach() -> None:
        with watched(metrics, Operation.ATTACH):
            if error is not None:
                raise error

    if error is None:
        attach()
    else:
        with pytest.raises(type(error)):
            attach()
    counted = {
        (operation, result): registry.get_sample_value(
            "romana_agent_endpoint_seconds_count",
            {"operation": operation.value, "outcome": result.value},
        )
        for operation in Operation
        for result in Result
    }
    assert counted.pop((Operation.ATTACH, outcome)) == 1
    assert set(counted.values()) == {0}
