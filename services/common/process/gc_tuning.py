"""What a service does with its memory once it has read the store."""

from __future__ import annotations

import contextlib
import ctypes
import gc
from typing import Final

YOUNG: Final = 10_000
"""Objects more than there were, after which the collector looks through those: milliseconds."""
MIDDLE: Final = 250
"""Such looks, after which it looks through all that came since the last time."""


def tune() -> None:
    """Sets how often the collector looks. By default it looks through all young objects every 700
    of them, and through all there are far too often for services that hold millions."""
    gc.set_threshold(YOUNG, MIDDLE, 100)


def unfreeze_heap() -> None:
    """Frees what was taken out of sight and is used no more; to be called when it is thrown away.

    What `freeze_heap` froze is never garbage to the collector, however little refers to it: whoever
    reads the store anew would keep all that it read before.
    """
    gc.unfreeze()
    gc.collect()


def freeze_heap() -> None:
    """Takes what was loaded out of the garbage collector's sight: hardly any of it is ever garbage,
    and looking through it stops the process for a second per million objects or so.

    What the documents took while they were read goes back to the system: a fifth of it all.
    """
    gc.collect()
    gc.freeze()
    with contextlib.suppress(OSError, AttributeError):  # another C library than glibc
        ctypes.CDLL("libc.so.6").malloc_trim(0)
