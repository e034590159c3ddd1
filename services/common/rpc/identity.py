"""Who calls, as far as its certificate says.

A node's certificate names its node: as the URI `romana:node:NAME`, as common name or as DNS name.
Without TLS nobody is known, and nothing is checked. What else a certificate may do is in `roles`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import grpc.aio

from services.common.errors import Forbidden

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

NODE_URI: Final = "romana:node:"
TRANSPORT: Final = "transport_security_type"
ALTERNATIVE_NAMES: Final = "x509_subject_alternative_name"
_NAMES: Final = ("x509_common_name", ALTERNATIVE_NAMES)
"""Keys of gRPC's auth context: https://grpc.github.io/grpc/core/md_doc_server_side_auth.html"""


def names_of(
    auth: Mapping[str, Iterable[bytes]], keys: Sequence[str] = _NAMES
) -> frozenset[str] | None:
    """The names in a caller's certificate; None: the connection has no TLS."""
    if b"ssl" not in auth.get(TRANSPORT, ()):
        return None
    return frozenset(name.decode(errors="replace") for key in keys for name in auth.get(key, ()))


def check_node(context: Context, node: str) -> None:
    """Raises Forbidden if the caller has a certificate that is not this node's."""
    names = names_of(context.auth_context())
    if names is not None and node not in names and NODE_URI + node not in names:
        raise Forbidden(
            f"this certificate may not speak for node {node!r}",
            reason="NOT_THIS_NODE",
            metadata={"node": node},
        )
