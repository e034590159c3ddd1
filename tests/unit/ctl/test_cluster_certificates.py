"""When a certificate in a cluster is made anew."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from services.common.certificates import authority
from services.ctl.local.cluster_certificates import (
    CA,
    CERTIFICATE,
    KEY,
    agents_are_due,
    is_due,
    leaves,
)

NOW = datetime(2026, 5, 1, tzinfo=UTC)
HOSTS = ("romana", "10.96.0.20")
OURS = authority.new_authority("ours", NOW)


def test_it_is_due_when_it_lacks_ends_soon_or_is_for_others() -> None:
    service = next(leaf for leaf in leaves(HOSTS, etcd=True) if leaf.secret == "romana-service-tls")
    made = authority.issue(OURS, service.subject, NOW, days=100)
    data = {CA: OURS.certificate, CERTIFICATE: made.certificate, KEY: made.key}

    def due(days: int = 0, **more: bytes) -> bool:
        changed = data | {name.replace("_", "."): content for name, content in more.items()}
        return is_due(changed, service, OURS, NOW + timedelta(days=days), 30)

    assert not due()
    assert not due(69)
    assert due(71)
    assert due(ca_crt=authority.new_authority("theirs", NOW).certificate)
    assert is_due({}, service, OURS, NOW, 30)
    elsewhere = leaves((*HOSTS, "10.96.0.21"), etcd=True)
    assert all(is_due(data, leaf, OURS, NOW, 30) for leaf in elsewhere)


def test_nodes_are_known_by_another_authority_than_etcd_trusts() -> None:
    authorities = {leaf.secret: leaf.authority for leaf in leaves(HOSTS, etcd=True)}
    assert authorities["romana-etcd-tls"] not in {
        authorities["romana-service-tls"],
        authorities["romana-operator-tls"],
    }
    roles = {leaf.secret: leaf.subject.uris for leaf in leaves(HOSTS, etcd=True)}
    assert roles["romana-service-tls"] == ("romana:service",)
    assert roles["romana-operator-tls"] == ("romana:operator",)
    assert roles["romana-etcd-tls"] == ()


def test_agents_begin_anew_before_the_oldest_of_their_certificates_ends() -> None:
    def due(days: int, within: int = 60) -> bool:
        return agents_are_due(NOW, NOW + timedelta(days=days), within)

    assert not due(304)
    assert due(306)
    assert due(0, 400)
