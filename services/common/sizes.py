"""How large requests, answers, documents and transactions may be: in one place, so that they meet.

What one message may bring has to fit into transactions, and what comes of it into an answer.
`tests/unit/common/test_sizes.py` holds them against each other.
"""

from __future__ import annotations

from typing import Final

MESSAGE_BYTES: Final = 16 << 20
"""One message over gRPC, either way: a snapshot of 100,000 routes, or a topology with thousands of
groups, with room to spare."""
ANSWER_BYTES: Final = MESSAGE_BYTES - (1 << 20)
"""What the items of an answer may have in all: the rest is for what is around them."""
BATCH_ITEMS: Final = 10_000
"""Items in one request."""
BATCH_ADDRESSES: Final = 60_000
"""Addresses that the items of one request may ask for in all."""
ADDRESS_BYTES: Final = 176
"""What one address needs in the answer to a batch: IPv6 in full, on a network with a long name."""
CONNECTIONS_MOST: Final = 20_000
"""Of an endpoint that moves, from one node to the other; a hundred bytes each."""
STATUS_BYTES: Final = 320
"""What every item of a batch has for its error: code, reason and the beginning of the message.
There is more for each if there are fewer errors."""

TRANSACTION_OPERATIONS: Final = 128
"""etcd's default of `--max-txn-ops`: of compares, of operations, and of those otherwise."""
TRANSACTION_BYTES: Final = 1_500_000
"""etcd's default of `--max-request-bytes` is 1.5 MiB, with what it adds itself. A request above 2
MiB does not even reach it: its gRPC refuses it."""

LAYOUT_BYTES: Final = 1_000_000
"""The layout's document; the claims that are compared go with it."""
POLICY_BYTES: Final = 1_200_000
"""A policy's document."""
