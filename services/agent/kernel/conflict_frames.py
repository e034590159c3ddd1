"""Frames of address conflict detection and announcement, packed and understood. Pure.

IPv4 by RFC 5227: a probe asks for the address with no sender address; a reply for it, or somebody
else's probe for it, is a conflict; an announcement says sender and target are the same. IPv6 by RFC
4861 and 4862: a neighbour solicitation from the unspecified address to the solicited-node group; an
advertisement for the target, or somebody else's such solicitation, is a conflict; an unsolicited
advertisement with the override flag announces.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from services.common.model.network import Address

ETH_ARP: Final = 0x0806
ETH_RARP: Final = 0x8035
ETH_IPV6: Final = 0x86DD
BROADCAST: Final = b"\xff" * 6
ALL_NODES: Final = IPv6Address("ff02::1")
ANY_6: Final = IPv6Address("::")

_ETHERNET: Final = struct.Struct("!6s6sH")
_ARP: Final = struct.Struct("!HHBBH6s4s6s4s")
_IPV6: Final = struct.Struct("!IHBB16s16s")
_NEIGHBOUR: Final = struct.Struct("!BBHI16s")
_ICMPV6: Final = 58
_HOPS: Final = 255
_SOLICITATION: Final = 135
_ADVERTISEMENT: Final = 136
_SOURCE_LINK: Final = 1
_TARGET_LINK: Final = 2
_ROUTER_OVERRIDE: Final = 0xA0000000
"""R and O: the node forwards, and what others had cached is to be replaced."""


class _Arp(IntEnum):
    REQUEST = 1
    REPLY = 2


def probe(address: Address, mac: bytes) -> bytes:
    """Asks whether anybody has an address; `mac` is that of the interface it is sent from."""
    if isinstance(address, IPv4Address):
        return _arp(_Arp.REQUEST, mac, bytes(4), bytes(6), address.packed)
    group = _solicited(address)
    body = _NEIGHBOUR.pack(_SOLICITATION, 0, 0, 0, address.packed)
    return _ipv6(mac, _group_mac(group), ANY_6, group, body)


def question(address: Address, mac: bytes, own: Address) -> bytes:
    """Asks who has an address, so that the answer comes to `own`, which is on the same link."""
    if isinstance(address, IPv4Address):
        return _arp(_Arp.REQUEST, mac, own.packed, bytes(6), address.packed)
    group = _solicited(address)
    body = _NEIGHBOUR.pack(_SOLICITATION, 0, 0, 0, address.packed)
    body += struct.pack("!BB6s", _SOURCE_LINK, 1, mac)
    return _ipv6(mac, _group_mac(group), IPv6Address(own.packed), group, body)


def announcement(address: Address, mac: bytes) -> bytes:
    """Tells everybody on the link to send packets for the address here."""
    if isinstance(address, IPv4Address):
        return _arp(_Arp.REQUEST, mac, address.packed, bytes(6), address.packed)
    body = _NEIGHBOUR.pack(_ADVERTISEMENT, 0, 0, _ROUTER_OVERRIDE, address.packed)
    body += struct.pack("!BB6s", _TARGET_LINK, 1, mac)
    return _ipv6(mac, _group_mac(ALL_NODES), address, ALL_NODES, body)


def claimant(frame: bytes, address: Address, mac: bytes) -> str | None:
    """Who else claims an address in a frame: a MAC address; None: nobody.

    Frames of our own interface, `mac`, are no conflict.
    """
    if len(frame) < _ETHERNET.size:
        return None
    _, source, kind = _ETHERNET.unpack_from(frame)
    body = frame[_ETHERNET.size :]
    if isinstance(address, IPv4Address) and kind == ETH_ARP:
        claims = _arp_claims(body, address, mac)
    elif isinstance(address, IPv6Address) and kind == ETH_IPV6:
        claims = source if source != mac and _neighbour_claims(body, address) else None
    else:
        return None
    return claims.hex(":") if claims is not None else None


def is_rarp(frame: bytes) -> bool:
    """Whether a frame is of RFC 903, by which hypervisors tell switches where a guest is now."""
    return len(frame) >= _ETHERNET.size and _ETHERNET.unpack_from(frame)[2] == ETH_RARP


def _arp_claims(body: bytes, address: IPv4Address, mac: bytes) -> bytes | None:
    if len(body) < _ARP.size:
        return None
    hardware, protocol, _, _, operation, sender_mac, sender, _, target = _ARP.unpack_from(body)
    if (hardware, protocol) != (1, 0x0800) or sender_mac == mac:
        return None
    probes = operation == _Arp.REQUEST and sender == bytes(4) and target == address.packed
    found: bytes = sender_mac
    return found if sender == address.packed or probes else None


def _neighbour_claims(body: bytes, address: IPv6Address) -> bool:
    if len(body) < _IPV6.size + _NEIGHBOUR.size:
        return False
    _, _, following, hops, sender, _ = _IPV6.unpack_from(body)
    if following != _ICMPV6 or hops != _HOPS:
        return False
    kind, code, _, _, target = _NEIGHBOUR.unpack_from(body, _IPV6.size)
    if code or target != address.packed:
        return False
    return bool(kind == _ADVERTISEMENT) or bool(kind == _SOLICITATION and sender == ANY_6.packed)


def _arp(operation: _Arp, mac: bytes, sender: bytes, target_mac: bytes, target: bytes) -> bytes:
    body = _ARP.pack(1, 0x0800, 6, 4, operation, mac, sender, target_mac, target)
    return _ETHERNET.pack(BROADCAST, mac, ETH_ARP) + body


def _ipv6(mac: bytes, to_mac: bytes, source: IPv6Address, to: IPv6Address, body: bytes) -> bytes:
    checksum = _checksum(source.packed + to.packed + struct.pack("!II", len(body), _ICMPV6) + body)
    body = body[:2] + struct.pack("!H", checksum) + body[4:]
    header = _IPV6.pack(6 << 28, len(body), _ICMPV6, _HOPS, source.packed, to.packed)
    return _ETHERNET.pack(to_mac, mac, ETH_IPV6) + header + body


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _solicited(address: IPv6Address) -> IPv6Address:
    """ff02::1:ff00:0/104 and the address' last 24 bits."""
    return IPv6Address(b"\xff\x02" + bytes(9) + b"\x01\xff" + address.packed[13:])


def _group_mac(group: IPv6Address) -> bytes:
    return b"\x33\x33" + group.packed[12:]
