"""Who gets a certificate of a node."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest

from services.common.errors import Forbidden
from services.kubernetes.objects.pods import Pod, PodObject, pod_of
from services.kubernetes.objects.signing_requests import (
    POD_NAME,
    POD_UID,
    SigningRequest,
    SigningRequestObject,
    signing_request_of,
)
from services.kubernetes.wanted.node_certificates import agent_pod, node_of_agent

USER = "system:serviceaccount:romana-system:romana-agent"
EXTRA = {POD_NAME: ["romana-agent-x"], POD_UID: ["u-1"]}


def asked(username: str = USER, extra: Any = EXTRA, **status: Any) -> SigningRequest:
    text = base64.b64encode(b"asked").decode()
    spec = {"request": text, "signerName": "romana.io/node", "username": username, "extra": extra}
    sent = {"metadata": {"name": "r"}, "spec": spec, "status": status}
    return signing_request_of(msgspec.convert(sent, SigningRequestObject))


def running(uid: str = "u-1", node: str = "node-1", phase: str = "Pending") -> Pod:
    sent = {
        "metadata": {"name": "romana-agent-x", "namespace": "romana-system", "uid": uid},
        "spec": {"nodeName": node, "containers": []},
        "status": {"phase": phase},
    }
    return pod_of(msgspec.convert(sent, PodObject))


def test_it_is_for_the_node_of_the_pod_that_asks() -> None:
    request = asked()
    assert agent_pod(request, "romana-system", "romana-agent") == "romana-system/romana-agent-x"
    assert node_of_agent(request, running()) == "node-1"
    assert request.request == b"asked"


@pytest.mark.parametrize(
    ("username", "extra"),
    [
        ("system:serviceaccount:romana-system:other", EXTRA),
        ("system:serviceaccount:other:romana-agent", EXTRA),
        ("admin", EXTRA),
        (USER, None),
        (USER, {POD_NAME: ["romana-agent-x"]}),
        (USER, {POD_NAME: ["a", "b"], POD_UID: ["u-1"]}),
    ],
)
def test_others_are_refused(username: str, extra: Any) -> None:
    with pytest.raises(Forbidden):
        agent_pod(asked(username, extra), "romana-system", "romana-agent")


@pytest.mark.parametrize(
    "pod", [None, running(uid="u-2"), running(node=""), running(phase="Failed")]
)
def test_a_pod_that_does_not_run_now_is_refused(pod: Pod | None) -> None:
    with pytest.raises(Forbidden):
        node_of_agent(asked(), pod)


def test_what_has_an_answer_is_settled() -> None:
    assert not asked().is_settled
    assert not asked(conditions=[{"type": "Approved"}]).is_settled
    assert asked(conditions=[{"type": "Denied"}]).is_settled
    assert asked(certificate="eA==").is_settled


def test_what_is_no_base64_is_an_empty_request() -> None:
    sent = {"metadata": {"name": "r"}, "spec": {"request": "?"}}
    assert signing_request_of(msgspec.convert(sent, SigningRequestObject)).request == b""
