"""A backup of etcd that is restored by the steps of docs/backup.md."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from pathlib import Path

import grpc.aio
import pytest
from romana.ipam.v1 import ipam_service_pb2 as pb
from romana.ipam.v1.allocation_pb2 import AllocationSpec

from services.common.etcd.client import EtcdClient
from services.common.etcd.process import EtcdOptions, LocalEtcd, free_port
from tests.support.etcdctl import etcdctl, is_installed, restore
from tests.support.fault_table import FaultCount, Record
from tests.support.ipam_process import poll
from tests.support.ipam_site import (
    NODES,
    RECOVERY,
    SECONDS,
    IpamSite,
    ipam_site,
    seed_of_faults,
)
from tests.support.ipam_workers import AGAIN, spec_of

pytestmark = [
    pytest.mark.timeout(int(SECONDS) + 300),
    pytest.mark.skipif(not is_installed(), reason="needs etcdctl (apt-get install etcd-client)"),
]

RESTING = grpc.StatusCode.RESOURCE_EXHAUSTED
"""What is said of an address whose block rests with another owner."""


async def test_a_restored_store_is_brought_up_to_date_by_the_documented_steps(
    tmp_path: Path, record_property: Record
) -> None:
    chosen = seed_of_faults()
    ports = EtcdOptions(client_port=free_port(), peer_port=free_port())
    etcd = LocalEtcd(tmp_path / "etcd", ports)
    await etcd.start()
    async with ipam_site(tmp_path, [etcd], random.Random(chosen)) as site:
        with site.reporting(chosen, tmp_path):
            async with site.working():
                await site.recovered()
                await etcdctl(etcd, "snapshot", "save", str(tmp_path / "romana.db"))
                await site.recovered()
                await site.recovered()
            began = time.monotonic()
            forgotten = await site.leader()
            for replica in site.replicas:
                if replica is not forgotten:
                    assert await replica.stop() == 0
            etcd.stop()
            restored = LocalEtcd(tmp_path / "restored", replace(ports, token="restored-1"))
            restored.data.parent.mkdir()
            await restore(
                tmp_path / "romana.db",
                restored.data,
                peer_port=ports.peer_port,
                token="restored-1",
            )
            await restored.start()
            try:
                assert await forgotten.wait(RECOVERY) == 1
                await etcdctl(restored, "del", site.keys.epoch)
                for replica in site.replicas:
                    replica.start()
                async with EtcdClient([restored.endpoint]) as site.client:
                    wrong = await site.differences()
                    assert any(wrong), "nothing was taken or released after the backup"
                    await bring_up_to_date(site)
                    losses, leaks = await site.differences()
                    FaultCount(
                        "etcd restored from a backup",
                        len(site.journal.entries),
                        duplicates=len([*site.journal.overlaps()]),
                        losses=len(losses),
                        leaks=len(leaks),
                        longest_gap=time.monotonic() - began,
                    ).record(record_property)
                    await site.prove()
                    async with site.working():
                        await site.recovered()
                    await site.prove()
            finally:
                restored.stop()


async def bring_up_to_date(site: IpamSite) -> None:
    """By the ledger: releases what the backup has too much, then takes what it lacks."""
    losses, leaks = await site.differences()
    active = await site.leader()
    async with active.connect() as stub:
        for name in {name for name, _ in leaks}:
            request = pb.ReleaseAddressRequest(spec=pb.ReleaseSpec(name=name))
            await stub.ReleaseAddress(request, timeout=RECOVERY)
        for name in {name for name, _ in losses} | {name for name, _ in leaks}:
            if name not in site.journal.held:
                continue
            spec = spec_of(name, NODES, site.journal.held[name])

            async def taken(spec: AllocationSpec = spec) -> bool:
                try:
                    await stub.AllocateAddress(pb.AllocateAddressRequest(spec=spec), timeout=5)
                except grpc.aio.AioRpcError as error:
                    if error.code() not in {*AGAIN, RESTING}:
                        raise
                    return False
                return True

            await poll(taken, RECOVERY, what=f"the addresses of {name}")
