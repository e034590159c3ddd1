from __future__ import annotations

import os
from pathlib import Path

import pytest

from services.common.errors import WrongState
from services.ctl.calls import service_addresses
from services.ctl.calls.service_addresses import Cluster, ServiceAddresses


def cluster(pid: int) -> Cluster:
    return Cluster(
        *(pid, "127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3", "127.0.0.1:4", "127.0.0.1:5"),
        policy="127.0.0.1:9630",
    )


def home(folder: Path) -> dict[str, str]:
    return {"XDG_DATA_HOME": str(folder / "home")}


def test_without_anything_it_is_the_default(tmp_path: Path) -> None:
    found = service_addresses.find("", "", home(tmp_path))
    assert found == ServiceAddresses("127.0.0.1:9610", "127.0.0.1:9620")


def test_a_cluster_that_is_named_and_does_not_run_is_no_other(tmp_path: Path) -> None:
    named = {"ROMANA_DATA_DIR": str(tmp_path)}
    assert service_addresses.find("", "i:1", named) == ServiceAddresses("", "i:1", "")
    assert "none runs there" in str(service_addresses.not_found(named))
    (tmp_path / "endpoints.json").mkdir()
    assert "Is a directory" in str(service_addresses.not_found(named))


def test_a_running_cluster_is_found(tmp_path: Path) -> None:
    service_addresses.publish(tmp_path, cluster(os.getpid()), home(tmp_path))
    found = service_addresses.find("", "", {"ROMANA_DATA_DIR": str(tmp_path)})
    assert found == ServiceAddresses("127.0.0.1:1", "127.0.0.1:2")


def test_the_environment_precedes_a_cluster_and_an_option_both(tmp_path: Path) -> None:
    service_addresses.publish(tmp_path, cluster(os.getpid()), home(tmp_path))
    environment = {"ROMANA_DATA_DIR": str(tmp_path), "ROMANA_TOPOLOGY": "t:1", "ROMANA_IPAM": "i:1"}
    assert service_addresses.find("", "i:2", environment) == ServiceAddresses("t:1", "i:2")


def test_a_cluster_whose_process_is_gone_does_not_count(tmp_path: Path) -> None:
    service_addresses.publish(tmp_path, cluster(2**22 + 1), home(tmp_path))
    assert service_addresses.running(tmp_path) is None


def test_a_withdrawn_or_broken_file_does_not_count(tmp_path: Path) -> None:
    service_addresses.publish(tmp_path, cluster(os.getpid()), home(tmp_path))
    service_addresses.withdraw(tmp_path, home(tmp_path))
    assert service_addresses.running(tmp_path) is None
    (tmp_path / "endpoints.json").write_text('{"pid": "x"}')
    assert service_addresses.running(tmp_path) is None


def test_the_data_directory_follows_the_environment(tmp_path: Path) -> None:
    assert service_addresses.data_dir({"ROMANA_DATA_DIR": "/d"}) == Path("/d")
    assert service_addresses.data_dir({"XDG_DATA_HOME": str(tmp_path)}) == tmp_path / "romana"


def test_a_cluster_with_a_directory_of_its_own_is_found_without_naming_it(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    service_addresses.publish(elsewhere, cluster(os.getpid()), home(tmp_path))
    assert service_addresses.find("", "", home(tmp_path)).topology == "127.0.0.1:1"
    service_addresses.withdraw(elsewhere, home(tmp_path))
    assert service_addresses.find("", "", home(tmp_path)).topology == "127.0.0.1:9610"


def test_of_several_clusters_none_is_taken_unless_it_is_named(tmp_path: Path) -> None:
    own, elsewhere = tmp_path / "home" / "romana", tmp_path / "elsewhere"
    for folder in (own, elsewhere):
        folder.mkdir(parents=True)
        service_addresses.publish(folder, cluster(os.getpid()), home(tmp_path))
    with pytest.raises(WrongState, match="several clusters") as refused:
        service_addresses.find("", "", home(tmp_path))
    assert refused.value.reason == "SEVERAL_CLUSTERS"
    named = {**home(tmp_path), "ROMANA_DATA_DIR": str(elsewhere)}
    assert service_addresses.find("", "", named).topology == "127.0.0.1:1"
    assert service_addresses.find("t:1", "i:1", home(tmp_path), policy="p:1").ipam == "i:1"
