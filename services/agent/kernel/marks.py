"""Who has which bits of marks: of packets and of connections alike, so that none has another's.

    0x00004000   kube-proxy's: this packet is to be masqueraded. Read, never written
    0x00008000   kube-proxy's: this packet is to be dropped
    0x00002000   the plug-in portmap's: this packet is to be masqueraded
    0x001f0000   WAYS: which way replies of a translated connection go
    0x3fe00000   STEERING: which device a connection is led through
    the rest     anybody's: nothing here reads or writes it

Only bits of one's own are compared and set, the others stay as they are. `OPERATORS` is older than
this order and a whole mark: it is known by the bits of it that are nobody's here, and the value
that it has in STEERING stands for no device.
"""

from __future__ import annotations

import sys
from typing import Final

ALL: Final = 0xFFFFFFFF
MASQUERADED: Final = 0x00004000
WAYS: Final = 0x001F0000
STEERING: Final = 0x3FE00000
OURS: Final = WAYS | STEERING

OPERATORS: Final = 0x524F4D41
"""What an operator's own rules mark a packet with that no policy is asked about: "ROMA"."""
OPERATORS_MASK: Final = ALL & ~OURS

LEG: Final = 0x0FE00000
"""In STEERING: number of a device's leg on a network; a packet goes to it, or came from it. A
connection is led through it. No leg has the number 18, which OPERATORS has here."""
CAME: Final = 0x30000000
"""Of a packet in STEERING: where it came from. 0: from an endpoint."""
FROM_OUTSIDE: Final = 0x10000000
"""In CAME: by the attachment that it leaves by for the device."""
RETURNED: Final = 0x20000000
"""In CAME: from a device."""
FROM_ELSEWHERE: Final = FROM_OUTSIDE | RETURNED
"""In CAME: by another attachment than it leaves by."""
LEARNED: Final = 0x20000000
"""Of a connection in STEERING: other nodes lead it there, this one follows."""
INGRESS: Final = 0x10000000
"""Of a connection in STEERING that this node leads: by an ingress rule, so it comes to an
endpoint of this node; else by an egress rule."""


def of_leg(number: int) -> int:
    """The bits of a leg's number."""
    return number * (LEG & -LEG)


def native(value: int) -> bytes:
    """As the kernel compares marks."""
    return value.to_bytes(4, sys.byteorder)
