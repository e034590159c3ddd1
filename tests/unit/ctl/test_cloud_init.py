"""What cloud-init is told, and the image of a seed."""

from __future__ import annotations

import io

import pycdlib
import yaml
from google.protobuf.timestamp_pb2 import Timestamp
from romana.agent.v1 import endpoint_pb2

from services.ctl.local.seed_image import image
from services.ctl.views.cloud_init import network_config, seed

VM = endpoint_pb2.Endpoint(
    name="shop/vm-1",
    addresses=[
        endpoint_pb2.EndpointAddress(address="10.1.0.5", network="a", gateway="169.254.1.1"),
        endpoint_pb2.EndpointAddress(address="10.2.0.5", network="b", gateway="169.254.1.1"),
        endpoint_pb2.EndpointAddress(address="fd00::5", network="six", gateway="fe80::1"),
    ],
    mtu=1400,
    nameservers=["10.0.0.53", "fd00::53"],
    search_domains=["corp.example"],
    create_time=Timestamp(seconds=1_795_800_000),
)


def test_all_addresses_and_one_default_route_of_each_family() -> None:
    assert network_config(VM, "") == {
        "version": 2,
        "ethernets": {
            "romana": {
                "match": {"name": "e*"},
                "dhcp4": False,
                "dhcp6": False,
                "accept-ra": False,
                "addresses": ["10.1.0.5/32", "10.2.0.5/32", "fd00::5/128"],
                "routes": [
                    {"to": "0.0.0.0/0", "via": "169.254.1.1", "on-link": True},
                    {"to": "::/0", "via": "fe80::1", "on-link": True},
                ],
                "mtu": 1400,
                "nameservers": {
                    "addresses": ["10.0.0.53", "fd00::53"],
                    "search": ["corp.example"],
                },
            }
        },
    }


def test_what_is_not_known_is_left_out() -> None:
    plain = endpoint_pb2.Endpoint(name="vm", addresses=VM.addresses[:1])
    ethernets = network_config(plain, "52:54:00:00:00:01")["ethernets"]
    assert isinstance(ethernets, dict)
    (found,) = ethernets.values()
    assert isinstance(found, dict)
    assert found["match"] == {"macaddress": "52:54:00:00:00:01"}
    assert set(found) == {"match", "dhcp4", "dhcp6", "accept-ra", "addresses", "routes"}


def test_another_attach_is_another_instance() -> None:
    first = yaml.safe_load(seed(VM, "", "", b"")["meta-data"])
    assert first["local-hostname"] == "shop-vm-1"
    later = endpoint_pb2.Endpoint()
    later.CopyFrom(VM)
    later.create_time.seconds += 1
    assert (
        yaml.safe_load(seed(later, "", "", b"")["meta-data"])["instance-id"] != first["instance-id"]
    )


def test_the_image_has_the_label_and_the_files_that_cloud_init_looks_for() -> None:
    files = seed(VM, "", "db", b"#cloud-config\npackages: [tmux]\n")
    content = image(files)
    assert content[32808:32840].decode().strip() == "cidata"  # ECMA-119, 8.4.7
    made = pycdlib.PyCdlib()
    made.open_fp(io.BytesIO(content))
    for kind in ("rr_path", "joliet_path"):
        for name, text in files.items():
            out = io.BytesIO()
            made.get_file_from_iso_fp(out, **{kind: f"/{name}"})
            assert out.getvalue() == text
    made.close()
    assert yaml.safe_load(files["meta-data"])["local-hostname"] == "db"
