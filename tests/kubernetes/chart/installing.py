"""What the chart installs works, and asks for no more than it says."""

from __future__ import annotations

import base64
import copy
import ipaddress
import json

import pytest

from services.common.certificates import authority
from tests.kubernetes import files
from tests.kubernetes.hosts import CONTROL
from tests.kubernetes.installed import CHART, DEPLOYMENTS, NAMESPACE, RELEASE, Installed
from tests.kubernetes.objects import Pods, pod
from tests.kubernetes.romana import PODS
from tests.kubernetes.shell import Failed, until

RESOURCE = "romana.io/address"
TRIES = (
    {},
    {"tls": {"enabled": False}},
    {"etcd": {"endpoints": ["192.0.2.1:2379"]}},
    {"etcd": {"storage": {"kind": "claim", "class": "fast"}}},
    {"topology": {"initial": {}}},
    {"etcd": {"backup": {"enabled": True, "claim": "backup"}}},
    {"console": {"enabled": True}},
    {"console": {"enabled": True, "env": {"ALLOW_CHANGES": "true"}}, "tls": {"enabled": False}},
    {"crds": {"install": False}, "kubernetes": {"webhook": False, "clusterIP": "10.96.77.77"}},
)


def test_it_passes_its_own_test(installed: Installed) -> None:
    assert "Succeeded" in installed.helm("test", RELEASE)


def test_what_it_renders_is_what_the_api_server_takes(installed: Installed) -> None:
    installed.helm("lint", CHART, values=installed.values())
    version = json.loads(installed.kubectl("version", "-o", "json"))["serverVersion"]["gitVersion"]
    template = ("template", RELEASE, CHART, "--kube-version", version)
    for more in TRIES:
        # elsewhere than it is installed: of what is there not everything may be changed
        values = installed.values(**more)
        rendered = installed.helm(*template, values=values, namespace="default")
        installed.cluster.kubectl(
            "apply", "--dry-run=server", "--server-side", "--force-conflicts", "-f", "-",
            input=rendered,
        )  # fmt: skip


def test_pods_have_addresses_of_the_topology_and_reach_each_other(installed: Installed) -> None:
    pods = Pods(installed.cluster)
    objects = [pod("one", node="node-1"), pod("two", node="node-2")]
    pods.run(*objects)
    address = pods.address("two")
    assert ipaddress.IPv4Address(address) in PODS
    assert pods.ask("one", address) == f"two {pods.address('one')}"
    pods.delete(*objects)


def test_every_agent_has_the_certificate_of_its_own_node(installed: Installed) -> None:
    requests = installed.cluster.get("certificatesigningrequests")["items"]
    ours = [one for one in requests if one["spec"]["signerName"] == "romana.io/node"]
    pods = {
        one["metadata"]["name"]: one["spec"]["nodeName"]
        for one in installed.cluster.get("-n", NAMESPACE, "pods")["items"]
    }
    nodes = set()
    for one in ours:
        (pod,) = one["spec"]["extra"]["authentication.kubernetes.io/pod-name"]
        found = authority.facts(base64.b64decode(one["status"]["certificate"]))
        assert found.uris == (f"romana:node:{pods[pod]}",)
        nodes.add(pods[pod])
    assert nodes == set(installed.cluster.hosts.nodes)


def test_nobody_else_gets_one(installed: Installed) -> None:
    made = authority.signing_request("node-1")
    request = {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"name": "not-an-agent"},
        "spec": {
            "request": base64.b64encode(made.certificate).decode(),
            "signerName": "romana.io/node",
            "usages": ["digital signature", "client auth", "server auth"],
        },
    }
    installed.cluster.apply(request)

    def is_denied() -> bool:
        found = installed.cluster.get("certificatesigningrequest", "not-an-agent")
        conditions = found["status"].get("conditions", [])
        return [one["type"] for one in conditions] == ["Denied"]

    until("the request to be denied", is_denied)
    installed.cluster.kubectl("delete", "certificatesigningrequest", "not-an-agent")


def test_a_topology_that_is_wrong_is_refused_there_and_then(installed: Installed) -> None:
    spec = installed.initial()
    right = {
        "apiVersion": "romana.io/v1alpha1",
        "kind": "RomanaTopology",
        "metadata": {"name": "romana"},
        "spec": spec,
    }
    installed.cluster.apply(right)
    wrong = copy.deepcopy(right)
    wrong["spec"]["networks"][0]["cidr"] = "10.60.0.1/16"
    with pytest.raises(Failed, match=r"spec\.networks\[0\]\.cidr"):
        installed.cluster.apply(wrong)

    def is_shown() -> bool:
        shown = installed.cluster.get("romananetworks")["items"]
        return [one["metadata"]["name"] for one in shown] == ["pods"]

    until("the network to be shown", is_shown)


def test_kube_scheduler_asks_the_extender_for_pods_that_name_the_resource(
    installed: Installed,
) -> None:
    cluster = installed.cluster
    secret = cluster.get("-n", NAMESPACE, "secret", "romana-scheduler-tls")["data"]
    tls = {
        "caData": secret["ca.crt"],
        "certData": secret["tls.crt"],
        "keyData": secret["tls.key"],
    }
    files.write_scheduler(
        cluster.hosts,
        {
            "urlPrefix": f"https://{cluster.hosts.address('node-1')}:9650",
            "enableHTTPS": True,
            "tlsConfig": {"serverName": "romana", **tls},
            "managedResources": [{"name": RESOURCE, "ignoredByScheduler": True}],
        },
    )
    cluster.restart(CONTROL, "kube-scheduler")
    pods = Pods(cluster)
    one, nowhere, other = pod("one"), pod("nowhere", network="nowhere"), pod("other")
    for item in (one, nowhere):
        item["spec"]["containers"][0]["resources"] = {"limits": {RESOURCE: "1"}}
    pods.run(one, other)
    cluster.apply(nowhere)

    def is_said() -> bool:
        events = cluster.get("events", "--field-selector=involvedObject.name=nowhere")["items"]
        return any("there is no network 'nowhere'" in item["message"] for item in events)

    until("a reason", is_said)
    pods.delete(one, nowhere, other)


def test_renewed_certificates_are_taken_up(installed: Installed) -> None:
    def serial() -> int:
        secret = installed.cluster.get("-n", NAMESPACE, "secret", "romana-service-tls")
        return authority.facts(base64.b64decode(secret["data"]["tls.crt"])).serial

    def pods(*components: str) -> dict[str, set[str]]:
        found = installed.cluster.get("-n", NAMESPACE, "pods")["items"]
        return {
            name: {
                one["metadata"]["uid"]
                for one in found
                if one["metadata"]["name"].startswith(f"romana-{name}-")
            }
            for name in components
        }

    services = ("etcd", *DEPLOYMENTS)
    before, running, agents = serial(), pods(*services), pods("agent")["agent"]
    # with longer to go before its end than it is good, every one is due
    job = installed.cluster.get("-n", NAMESPACE, "cronjob", "romana-certificates")
    spec = job["spec"]["jobTemplate"]["spec"]
    command = spec["template"]["spec"]["containers"][0]["command"]
    command.append("--within=36500")
    meta = {"name": "renew-now", "namespace": NAMESPACE}
    text = json.dumps({"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": spec})
    installed.cluster.kubectl("apply", "-f", "-", input=text)
    installed.kubectl("wait", "--for=condition=complete", "--timeout=240s", "job/renew-now")
    assert serial() != before
    installed.wait()
    until("agents to have begun anew", lambda: not agents & pods("agent")["agent"])
    installed.wait()
    assert "Succeeded" in installed.helm("test", RELEASE)
    assert pods(*services) == running
    installed.kubectl("delete", "job/renew-now")
