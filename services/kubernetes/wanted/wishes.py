"""What annotations say that a pod wants.

    romana.io/network     one address of this network
    romana.io/networks    one address of each of these: "blue,blue-6"
    romana.io/family      "4", "6", or "dual": one of each
    romana.io/addresses   exactly these: "10.1.0.7,fd00::7"

A pod's own go before its namespace's; `network` and `networks` say the same thing, so that a pod
that has one of them takes neither from its namespace. Addresses are for a pod alone to name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from services.common.document.values import parse_address
from services.common.errors import Violation
from services.common.model.names import resource_name
from services.kubernetes.objects.metadata import annotation_path
from services.kubernetes.wanted.values import AddressWish, Read

NETWORK: Final = "network"
NETWORKS: Final = "networks"
FAMILY: Final = "family"
ADDRESSES: Final = "addresses"
ADDRESSES_MOST: Final = 16
_FAMILIES: Final[Mapping[str, tuple[int, ...]]] = {"": (0,), "4": (4,), "6": (6,), "dual": (4, 6)}


def read_wishes(pod: Mapping[str, str], namespace: Mapping[str, str]) -> Read:
    """The addresses wanted; with a problem, none of them counts."""
    problems: list[Violation] = []
    networks = _networks(pod, namespace, problems)
    families = _families(pod, namespace, problems)
    fixed = _fixed(pod, problems)
    if ADDRESSES in namespace:
        at = annotation_path(ADDRESSES)
        problems.append(Violation(at, "of the namespace: addresses are for a pod to name"))
    if fixed and len(networks) > 1:
        at = annotation_path(NETWORKS)
        problems.append(Violation(at, "addresses say which networks they are of: name one or none"))
    wishes = (
        [AddressWish(networks[0] if networks else "", 0, text) for text in fixed]
        if fixed
        else [AddressWish(name, family) for name in networks or ("",) for family in families]
    )
    if len(wishes) > ADDRESSES_MOST:
        at = annotation_path(ADDRESSES if fixed else NETWORKS)
        problems.append(Violation(at, f"{len(wishes)} addresses, at most {ADDRESSES_MOST} are had"))
    if problems:
        return Read(problems=tuple(problems))
    return Read(() if wishes == [AddressWish()] else tuple(wishes))


def _networks(
    pod: Mapping[str, str], namespace: Mapping[str, str], problems: list[Violation]
) -> list[str]:
    source = pod if {NETWORK, NETWORKS} & pod.keys() else namespace
    if NETWORK in source and NETWORKS in source:
        at = annotation_path(NETWORKS)
        problems.append(Violation(at, f"goes not together with {annotation_path(NETWORK)}"))
        return []
    if NETWORK in source:
        at, names = annotation_path(NETWORK), [source[NETWORK].strip()]
    else:
        at, names = annotation_path(NETWORKS), _listed(source.get(NETWORKS, ""))
        if NETWORKS in source and not names:
            problems.append(Violation(at, "names none"))
    for name in names:
        problems += resource_name(name, at)
    if len(set(names)) < len(names):
        problems.append(Violation(at, "names a network twice"))
    return names


def _families(
    pod: Mapping[str, str], namespace: Mapping[str, str], problems: list[Violation]
) -> tuple[int, ...]:
    text = pod.get(FAMILY, namespace.get(FAMILY, "")).strip()
    found = _FAMILIES.get(text)
    if found is None:
        at = annotation_path(FAMILY)
        problems.append(Violation(at, f"{text[:80]!r} is none of 4, 6 and dual"))
        return (0,)
    return found


def _fixed(pod: Mapping[str, str], problems: list[Violation]) -> list[str]:
    if ADDRESSES not in pod:
        return []
    at, texts = annotation_path(ADDRESSES), _listed(pod[ADDRESSES])
    if not texts:
        problems.append(Violation(at, "names none"))
    found = [parse_address(text, at, problems) for text in texts]
    if len(set(found)) < len(found):
        problems.append(Violation(at, "names an address twice"))
    return [str(address) for address in found if address is not None]


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
