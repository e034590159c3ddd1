"""What an agent that starts anew knows of devices, so that no packet goes another way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Final

import msgspec
import structlog

from services.agent.model import DeviceWay
from services.common.files import write_atomic
from services.common.model.names import NetworkName
from services.common.model.network import Address

log = structlog.get_logger(__name__)

FILE: Final = "devices.json"


@dataclass(frozen=True, slots=True)
class Known:
    """What is remembered."""

    interfaces: Mapping[NetworkName, str] = field(default_factory=dict)
    """To networks."""
    macs: Mapping[tuple[NetworkName, Address], str] = field(default_factory=dict)
    """With which devices answered last."""
    ways: tuple[DeviceWay, ...] = ()
    """Of all devices."""


class _Document(msgspec.Struct):
    interfaces: dict[str, str]
    macs: list[tuple[str, str, str]]
    ways: list[tuple[int, str, str]]
    serve: dict[int, str] = {}
    """By number: the network for whose endpoints an arm is that is on another link."""
    copied: list[int] = []
    """Numbers of arms that get copies."""


class DeviceMemory:
    """The file. Its methods block."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / FILE

    def load(self) -> Known:
        """What was saved; nothing if there is nothing of use."""
        try:
            document = msgspec.json.decode(self._file.read_bytes(), type=_Document)
            return Known(
                {NetworkName(name): interface for name, interface in document.interfaces.items()},
                {
                    (NetworkName(network), ip_address(address)): mac
                    for network, address, mac in document.macs
                },
                tuple(
                    DeviceWay(
                        number,
                        NetworkName(network),
                        ip_address(address),
                        NetworkName(document.serve.get(number, network)),
                        number in document.copied,
                    )
                    for number, network, address in document.ways
                ),
            )
        except FileNotFoundError:
            return Known()
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            log.warning("devices_unreadable", file=str(self._file), message=str(error))
            return Known()

    def save(self, known: Known) -> None:
        """Writes it; raises OSError."""
        document = _Document(
            {str(name): interface for name, interface in known.interfaces.items()},
            [(network, str(address), mac) for (network, address), mac in known.macs.items()],
            [(way.number, way.network, str(way.address)) for way in known.ways],
            {way.number: way.serves for way in known.ways if way.serves != way.network},
            [way.number for way in known.ways if way.is_copied],
        )
        write_atomic(self._file, msgspec.json.encode(document))
