from __future__ import annotations

import json

import msgspec
import pytest

from services.common.errors import InvalidInput
from services.kubernetes.calls.devices import GroupState, _document
from services.kubernetes.calls.policy import _document as policy_document
from services.kubernetes.control.apply_topology import ACCEPTED
from services.kubernetes.control.device_groups import UP, _Outcome, _status
from services.kubernetes.objects.conditions import Finding
from services.kubernetes.objects.device_groups import (
    DeviceGroupObject,
    DeviceGroupResource,
    DeviceUse,
    device_group_of,
)
from services.kubernetes.objects.policies import NetworkPolicyObject, network_policy_of


def group(**more: object) -> DeviceGroupResource:
    sent = {"metadata": {"name": "fw", "uid": "u", "generation": 3}, **more}
    return device_group_of(msgspec.json.decode(json.dumps(sent), type=DeviceGroupObject))


def test_a_spec_is_a_file_with_the_name_of_its_object() -> None:
    spec = group(spec={"networks": ["blue"]}).spec
    assert json.loads(_document("fw", spec)) == {"name": "fw", "networks": ["blue"]}


@pytest.mark.parametrize("spec", [b'{"name": "x"}', b'{"etag": "1"}', b"[]"])
def test_what_the_object_has_is_not_said_again(spec: bytes) -> None:
    with pytest.raises(InvalidInput):
        _document("fw", spec)


def test_a_status_says_what_is_known() -> None:
    outcome = _Outcome("u", 3, Finding(ACCEPTED, "Valid", "fine"))
    devices = (DeviceUse("a", "up", 2), DeviceUse("b", "down", 0, 2, "no answer"))
    status = _status(group(), outcome, {"fw": GroupState(devices, ("p",), is_down=True)})
    assert (status.up, status.policies, status.observed_generation) == ("1 of 2", ("p",), 3)
    found = {one.type: (one.status, one.message) for one in status.conditions or ()}
    assert found == {ACCEPTED: ("True", "fine"), UP: ("False", "b: no answer")}
    again = group(status=json.loads(msgspec.json.encode(status)))
    assert again.status == status


def test_nothing_empty_is_applied() -> None:
    outcome = _Outcome("u", 3, Finding(ACCEPTED, "Invalid", "wrong", holds=False))
    text = msgspec.json.encode(_status(group(), outcome, {}))
    assert set(json.loads(text)) == {"conditions", "observedGeneration"}
    assert json.loads(msgspec.json.encode(DeviceUse("a", "up"))) == {"name": "a", "state": "up"}


@pytest.mark.parametrize(
    "annotations",
    [
        {"romana.io/via": "fw"},
        {"romana.io/mirror": ""},
        {"romana.io/via": "fw", "romana.io/mirror": "web=taps"},
    ],
)
def test_a_policy_takes_its_annotations_about_devices_along(annotations: dict[str, str]) -> None:
    metadata = {"name": "p", "annotations": {**annotations, "romana.io/network": "x", "other": "x"}}
    sent = json.dumps({"metadata": metadata, "spec": {"tier": "Admin"}})
    policy = network_policy_of(msgspec.json.decode(sent, type=NetworkPolicyObject))
    document = json.loads(policy_document(policy))
    assert document["metadata"]["annotations"] == annotations
