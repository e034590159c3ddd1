"""Reads the command's own small notations: labels, attachments, pins, wanted addresses.

What they mean is checked by the services; here only whether they can be read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from romana.ipam.v1 import allocation_pb2
from romana.topology.v1 import node_pb2

from services.ctl.failures.failure import usage
from services.ctl.views import enum_text

ATTACHMENT_KEYS = ("network", "interface", "address", "vlan", "parent")
WANT_KEYS = ("network", "family", "address")


def labels(texts: Iterable[str], option: str = "--label") -> dict[str, str]:
    """Reads "key=value" texts; a later one wins."""
    made: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not (key and equals):
            raise usage(f"{option} {text}: is not KEY=VALUE")
        made[key] = value
    return made


def label_changes(texts: Iterable[str]) -> tuple[dict[str, str], frozenset[str]]:
    """Reads "key=value", which sets, and "key-", which removes."""
    texts = tuple(texts)
    removed = frozenset(
        text[:-1] for text in texts if "=" not in text and len(text) > 1 and text.endswith("-")
    )
    return labels(text for text in texts if text[:-1] not in removed or "=" in text), removed


def attachment(text: str) -> node_pb2.Attachment:
    """Reads "network=prod,interface=eth1,address=10.0.0.5,vlan=100,parent=eth0"."""
    items = _items(text, "--attach", ATTACHMENT_KEYS)
    if "network" not in items:
        raise usage(f"--attach {text}: network=NAME is missing")
    vlan = items.get("vlan", "0")
    if not (vlan.isascii() and vlan.isdigit() and len(vlan) < 6):
        raise usage(f"--attach {text}: vlan={vlan} is not a number")
    return node_pb2.Attachment(
        network=items["network"],
        interface=items.get("interface", ""),
        address=items.get("address", ""),
        vlan_id=int(vlan),
        parent_interface=items.get("parent", ""),
    )


def pins(paths: Iterable[str]) -> dict[str, str]:
    """Reads paths of prefix groups; a path starts with the name of its topology."""
    made: dict[str, str] = {}
    for path in paths:
        topology, slash, _ = path.partition("/")
        if not (topology and slash):
            raise usage(f"--pin {path}: is not the path of a group, such as dc/rack-1")
        if topology in made:
            raise usage(f"--pin {path}: topology {topology} is pinned already")
        made[topology] = path
    return made


def wants(
    texts: Sequence[str], *, network: str, family: str, address: str
) -> list[allocation_pb2.AddressSpec]:
    """The addresses of a request: either of the single options, or each of a `--want`."""
    single = {"network": network, "family": family, "address": address}
    if not texts:
        return [_spec(single, "--family")] if any(single.values()) else []
    if any(single.values()):
        raise usage("--want cannot be mixed with --network, --family and --address")
    return [_spec(_items(text, "--want", WANT_KEYS), f"--want {text}") for text in texts]


def _spec(items: Mapping[str, str], where: str) -> allocation_pb2.AddressSpec:
    try:
        family = enum_text.family(items.get("family", ""))
    except ValueError as error:
        raise usage(f"{where}: {error}") from None
    return allocation_pb2.AddressSpec(
        network=items.get("network", ""), family=family, address=items.get("address", "")
    )


def _items(text: str, option: str, keys: Sequence[str]) -> dict[str, str]:
    made: dict[str, str] = {}
    for part in text.split(",") if text else ():
        key, equals, value = part.partition("=")
        if not equals or key not in keys:
            raise usage(f"{option} {text}: {part!r} is not one of {'=, '.join(keys)}=")
        if key in made:
            raise usage(f"{option} {text}: {key} is there twice")
        made[key] = value
    return made
