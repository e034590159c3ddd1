"""No value leaves in a support bundle unless its setting or variable is known to be harmless."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

import pytest
from pydantic import BaseModel

from services.agent.settings import AgentSettings
from services.console.settings import ConsoleSettings
from services.ctl.local import harmless
from services.ipam.settings import IpamSettings
from services.kubernetes.settings import KubernetesSettings
from services.policy.settings import PolicySettings
from services.topology.settings import TopologySettings

SECRET = "hunter2"


def paths(kind: type[BaseModel], path: str = "") -> Iterator[str]:
    """Every setting of a model."""
    for name, field in kind.model_fields.items():
        at = f"{path}{name}"
        kinds = (field.annotation, *get_args(field.annotation))
        sections = [one for one in kinds if isinstance(one, type) and issubclass(one, BaseModel)]
        if sections:
            yield from paths(sections[0], f"{at}.")
        else:
            yield f"{at}.*" if field.annotation == dict[str, str] else at


def test_of_every_setting_it_was_decided_and_nothing_else_is_shown() -> None:
    """A new setting is hidden until it is listed: here it shows that nobody has decided yet."""
    models = (
        *(TopologySettings, IpamSettings, PolicySettings),
        *(AgentSettings, KubernetesSettings, ConsoleSettings),
    )
    hidden = {"prometheus"}  # a URL may hold a password
    assert {path for model in models for path in paths(model)} - hidden == harmless.SETTINGS


def test_unknown_settings_are_hidden_wherever_they_are() -> None:
    settings = {
        "etcd": {"endpoints": [f"https://root:{SECRET}@10.0.0.5:2379"], "user_key": SECRET},
        "listen": {"tls": {"key": "/etc/romana/ipam.key"}},
        "attachments": [{"network": "qa", "community": SECRET}],
        "labels": {"rack": "rack-2"},
        "more": [SECRET, {"deep": [SECRET]}],
        "number": 4711,
    }
    found = harmless.settings(settings)
    assert SECRET not in str(found)
    assert "4711" not in str(found)
    assert isinstance(found, dict)
    assert found["listen"] == settings["listen"]
    assert found["labels"] == settings["labels"]
    assert found["attachments"] == [{"network": "qa", "community": "***"}]


def test_what_is_no_mapping_is_hidden() -> None:
    assert harmless.settings(SECRET) == "***"
    assert harmless.settings([SECRET]) == ["***"]


@pytest.mark.parametrize(
    "name",
    [
        "ROMANA_ETCD_KEY",
        "ROMANA_IPAM__ETCD__KEY",
        "ROMANA_IPAM__X",
        "ROMANA_KEY",
        "ROMANA_OTHER__LISTEN__ADDRESS",
        "ROMANA_AGENT__ATTACHMENTS",
        "ROMANA_AGENT__LABELS",
    ],
)
def test_unknown_variables_are_named_without_their_values(name: str) -> None:
    assert harmless.environment({name: SECRET}) == {name: "***"}


def test_variables_of_others_are_not_even_named() -> None:
    assert harmless.environment({"AWS_SECRET": SECRET, "PATH": "/bin"}) == {}


def test_known_variables_are_shown() -> None:
    known = {
        "ROMANA_AGENT__INSECURE": "true",
        "ROMANA_IPAM": "10.0.0.5:9620",
        "ROMANA_IPAM__LISTEN__ADDRESS": "127.0.0.1:9620",
        "ROMANA_TLS_KEY": "/etc/romana/me.key",
    }
    assert harmless.environment(known) == known
    attachments = '[{"network": "qa", "interface": "eth2", "secret": "hunter2"}]'
    assert harmless.environment({"ROMANA_AGENT__ATTACHMENTS": attachments}) == {
        "ROMANA_AGENT__ATTACHMENTS": [{"network": "qa", "interface": "eth2", "secret": "***"}]
    }


@pytest.mark.parametrize("value", ["-----BEGIN PRIVATE KEY-----\nMIIE\n", "A" * 2000])
def test_a_key_in_the_place_of_its_file_is_hidden(value: str) -> None:
    assert harmless.environment({"ROMANA_TLS_KEY": value}) == {"ROMANA_TLS_KEY": "***"}
    assert harmless.settings({"tls": {"key": value}}) == {"tls": {"key": "***"}}
