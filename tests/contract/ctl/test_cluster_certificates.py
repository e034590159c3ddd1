"""Which Secrets are made in a cluster, and which are left alone."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from services.ctl.local.cluster_certificates import ClusterCertificates, Outcome, Term
from tests.fakes.api_server import FakeApiServer

SECRETS = "/api/v1/namespaces/romana-system/secrets"
NOW = datetime(2026, 5, 1, tzinfo=UTC)
OURS = {"romana-authority", "romana-service-tls", "romana-operator-tls", "romana-scheduler-tls"}
OF_ETCD = {"romana-etcd-authority", "romana-etcd-tls"}


@pytest.mark.parametrize(("etcd", "wanted"), [(True, OURS | OF_ETCD), (False, OURS)])
async def test_they_are_made_once(etcd: bool, wanted: set[str]) -> None:  # noqa: FBT001
    fake = FakeApiServer()
    async with fake.serve() as server:
        certificates = ClusterCertificates(server, "romana-system")
        first = await certificates.ensure(["romana"], NOW, Term(365, 60), etcd=etcd)
        assert {one.secret: one.outcome for one in first} == dict.fromkeys(wanted, Outcome.MADE)
        again = await certificates.ensure(["romana"], NOW, Term(365, 60), etcd=etcd)
        assert {one.secret: one.outcome for one in again} == dict.fromkeys(wanted, Outcome.KEPT)
        assert {path.rpartition("/")[2] for path in fake.objects} == wanted


async def test_what_is_for_an_etcd_that_was_there_before_is_not_touched() -> None:
    fake = FakeApiServer()
    fake.put(f"{SECRETS}/romana-etcd-tls", data={"ca.crt": "dGhlaXJz"})
    async with fake.serve() as server:
        certificates = ClusterCertificates(server, "romana-system")
        await certificates.ensure(["romana"], NOW, Term(365, 60), etcd=False)
        assert fake.objects[f"{SECRETS}/romana-etcd-tls"]["data"] == {"ca.crt": "dGhlaXJz"}
