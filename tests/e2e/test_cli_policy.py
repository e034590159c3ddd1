"""`romana policy` and `romana tenant` against the services of `romana up`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.local_cluster import Up, up

EXAMPLES = Path(__file__).parents[2] / "examples"
KUBERNETES = EXAMPLES / "policies" / "kubernetes.yaml"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with up(tmp_path_factory.mktemp("policy")) as made:
        done = made.romana("topology", "apply", str(EXAMPLES / "datacenter.yaml"))
        assert done.returncode == 0, done.stderr
        yield made


def changes(cluster: Up, *arguments: str) -> dict[str, str]:
    answer = cluster.json("policy", *arguments)
    return {
        change["resource"]: change["kind"].removeprefix("CHANGE_KIND_")
        for change in answer["changes"]
    }


def test_a_file_is_planned_applied_exported_and_pruned(cluster: Up, tmp_path: Path) -> None:
    own = str(EXAMPLES / "policies" / "datacenter.yaml")
    assert changes(cluster, "plan", own)["policy/production/back"] == "CREATED"
    assert cluster.json("policy", "list") == []
    named = cluster.romana("policy", "plan", own, "-o", "name").stdout.split()
    assert changes(cluster, "apply", own, "--prune", "set=dc")["tenant/qa"] == "CREATED"
    assert "production/back" in named
    for name in named:
        assert cluster.romana("policy", "show", name).returncode == 0, name
    assert set(changes(cluster, "plan", own, "--prune", "set=dc").values()) == {"UNCHANGED"}

    exported = tmp_path / "exported.yaml"
    exported.write_text(cluster.romana("policy", "export").stdout)
    assert set(changes(cluster, "plan", str(exported)).values()) == {"UNCHANGED"}
    shown = tmp_path / "shown.yaml"
    shown.write_text(cluster.romana("policy", "show", "production/back", "-o", "yaml").stdout)
    assert set(changes(cluster, "plan", str(shown)).values()) == {"UNCHANGED"}

    rest = changes(cluster, "apply", str(shown), "--prune", "set=dc")
    assert rest["policy/production/front"] == "REMOVED"
    assert [each["name"] for each in cluster.json("policy", "list")] == ["production/back"]
    done = cluster.romana("policy", "delete", "production/back", "--yes", "--wait", "5")
    assert done.returncode == 0, done.stderr
    assert cluster.romana("policy", "show", "production/back").returncode == 3


def test_a_node_is_not_silently_on_links_where_it_has_no_address(cluster: Up) -> None:
    named = cluster.romana(
        "node", "register", "far", "--address", "192.0.2.77", "--label", "rack=rack-1"
    )
    assert named.returncode == 0, named.stderr
    assert "--attach" in named.stderr
    assert "production" in named.stderr
    wrong = cluster.romana("node", "update", "far", "--attach", "network=qa,address=192.0.2.77")
    assert wrong.returncode == 2
    assert "is outside of 10.30.0.0" in wrong.stderr
    own = cluster.romana("node", "update", "far", "--address", "127.0.0.1")
    assert own.returncode == 2
    assert cluster.romana("node", "remove", "far").returncode == 0


def state(cluster: Up) -> tuple[object, object]:
    """Policies and tenants, without what every write changes."""
    policies = cluster.json("policy", "list")
    tenants = cluster.json("tenant", "list")
    for each in (*policies, *tenants):
        for key in ("etag", "create_time", "update_time", "origin"):
            each.pop(key, None)
    return policies, tenants


def test_what_is_exported_and_applied_again_is_the_same(cluster: Up) -> None:
    own = str(EXAMPLES / "policies" / "datacenter.yaml")
    cluster.json("policy", "apply", own)
    before = state(cluster)
    exported = cluster.romana("policy", "export").stdout
    for name in [each["name"] for each in cluster.json("tenant", "list")]:
        refused = cluster.romana("tenant", "delete", name)
        assert (refused.returncode, "NOT_CONFIRMED" in refused.stderr) == (4, True)
        assert cluster.romana("tenant", "delete", name, "--yes").returncode == 0
    names = [each["name"] for each in cluster.json("policy", "list")]
    refused = cluster.romana("policy", "delete", *names)
    assert (refused.returncode, "NOT_CONFIRMED" in refused.stderr) == (4, True)
    assert cluster.romana("policy", "delete", *names, "--yes").returncode == 0
    assert state(cluster) == ([], [])
    assert cluster.romana("policy", "apply", "-", stdin=exported).returncode == 0
    assert state(cluster) == before


def test_a_tenant_is_not_opened_without_a_word(cluster: Up) -> None:
    cluster.json("tenant", "set", "apart", "--isolation", "tenant")
    refused = cluster.romana("tenant", "set", "apart", "--isolation", "none")
    assert (refused.returncode, "NOT_CONFIRMED" in refused.stderr) == (4, True)
    assert cluster.romana("tenant", "set", "apart", "--isolation", "segment").returncode == 0
    assert cluster.romana("tenant", "set", "apart", "--isolation", "none", "--yes").returncode == 0


def test_kubernetes_policies_keep_their_names_and_are_converted(
    cluster: Up, tmp_path: Path
) -> None:
    cluster.json("policy", "apply", str(KUBERNETES))
    found = cluster.json("policy", "list", "--label", "set=shop")
    assert [each["name"] for each in found] == ["shop/db", "shop/default-deny", "shop/web"]
    assert {each["origin"]["kind"] for each in found} == {"kubernetes"}
    converted = tmp_path / "converted.yaml"
    converted.write_text(cluster.romana("policy", "convert", str(KUBERNETES)).stdout)
    assert "policy/shop/web" in changes(cluster, "plan", str(converted))


def test_what_is_wrong_is_refused_and_nothing_of_it_applied(cluster: Up, tmp_path: Path) -> None:
    good = "{name: good, targets: [{endpoints: {}}]}"
    bad = "{name: bad, targets: [{endpoints: {networks: [nowhere]}}]}"
    file = tmp_path / "wrong.yaml"
    file.write_text(f"policies:\n  - {good}\n  - {bad}\n")
    done = cluster.romana("policy", "apply", str(file))
    assert done.returncode == 2
    assert "policies[1].targets[0].endpoints.networks[0]: there is no network" in done.stderr
    assert "line 3" in done.stderr
    assert cluster.romana("policy", "show", "good").returncode == 3


def test_a_connection_is_explained(cluster: Up) -> None:
    done = cluster.romana("policy", "explain", "10.20.0.5", "10.30.0.5", "--port", "80")
    assert done.returncode == 0, done.stderr
    assert "gateway: 10.20.0.1" in done.stdout
    assert cluster.romana("policy", "explain", "nobody", "10.30.0.5").returncode == 3


def test_tenants_are_set_and_forgotten(cluster: Up) -> None:
    cluster.json("tenant", "set", "zoo", "--label", "a=b", "--isolation", "tenant")
    changed = cluster.json("tenant", "set", "zoo", "--label", "a-", "--label", "c=d")
    assert changed["labels"] == {"c": "d"}
    assert changed["isolation"] == "ISOLATION_TENANT"
    assert cluster.romana("tenant", "delete", "zoo", "--yes").returncode == 0
    assert cluster.romana("tenant", "delete", "zoo").returncode == 3
