"""Who calls, as far as the certificate says: roles, by URIs among its alternative names.

    romana:operator       people who run the cluster
    romana:service        topology, ipam, policy and what else belongs to the installation
    romana:orchestrator   schedulers: where endpoints go, their names and labels
    romana:reader         monitoring: looks and changes nothing
    romana:tenant:NAME    people who run that tenant, and nothing else
    romana:node:NAME      the agent of that node

Common names and DNS names count for nothing: authorities tend to sign whatever is asked for. What a
role may do is in `role_table`. Without TLS nobody is known, and everything is allowed.

A replica that passes a call on says for whom it does so in metadata, which counts from services
alone. So what the active replica decides depends on who asked, not on the way the call took.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final
from urllib.parse import unquote

from services.common.errors import Forbidden
from services.common.model.names import NodeName, Tenant
from services.common.rpc.context import Context

URI: Final = "romana:"
NODE_URI: Final = "romana:node:"
TENANT_URI: Final = "romana:tenant:"
CALLER: Final = "x-romana-caller"
"""Metadata: a role's URI of whoever made the call that a replica passes on; once for each."""

CALLER_TEXT: Final = "x-romana-caller-text"
"""Metadata: `caller_text` of a call that a replica passes on."""

CLIENT: Final = "x-romana-client"
"""Metadata: `client_of` of a call that a replica passes on."""

USER_AGENT: Final = "user-agent"
"""Metadata of every call; what a program says of itself comes first in it."""
CLIENT_MOST: Final = 64
"""Characters of it that count."""

TRANSPORT: Final = "transport_security_type"
ALTERNATIVE_NAMES: Final = "x509_subject_alternative_name"
COMMON_NAME: Final = "x509_common_name"
"""Keys of gRPC's auth context: https://grpc.github.io/grpc/core/md_doc_server_side_auth.html"""


class Role(StrEnum):
    OPERATOR = "operator"
    SERVICE = "service"
    ORCHESTRATOR = "orchestrator"
    READER = "reader"
    TENANT = "tenant"
    NODE = "node"


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever shows a certificate. Without any role it may do nothing."""

    roles: frozenset[Role] = frozenset()
    nodes: frozenset[NodeName] = frozenset()
    """Whose agent it is, with the role of a node."""
    tenants: frozenset[Tenant] = frozenset()
    """What it may change and see, with the role of a tenant's operator."""

    @property
    def uris(self) -> Sequence[str]:
        others = sorted(URI + role for role in self.roles - {Role.NODE, Role.TENANT})
        return [
            *others,
            *sorted(TENANT_URI + tenant for tenant in self.tenants),
            *sorted(NODE_URI + node for node in self.nodes),
        ]


@lru_cache(maxsize=4096)
def caller_of_names(names: tuple[str, ...]) -> Caller:
    """A node's certificate is an agent's and no person's: tenants beside it count for nothing."""
    nodes = _after(NODE_URI, names)
    tenants = frozenset[str]() if nodes else _after(TENANT_URI, names)
    named = {Role.NODE: nodes, Role.TENANT: tenants}
    roles = frozenset(
        role for role in Role if (named[role] if role in named else URI + role in names)
    )
    return Caller(roles, frozenset(map(NodeName, nodes)), frozenset(map(Tenant, tenants)))


def _after(prefix: str, names: tuple[str, ...]) -> frozenset[str]:
    return frozenset(name.removeprefix(prefix) for name in names if name.startswith(prefix)) - {""}


def caller_of_certificate(certificate: Mapping[str, Any]) -> Caller:
    """Of what `ssl.SSLSocket.getpeercert` returns."""
    names = certificate.get("subjectAltName", ())
    return caller_of_names(tuple(value for kind, value in names if kind == "URI"))


def caller_of(context: Context) -> Caller | None:
    """Who makes a call, also by way of another replica; None: the connection has no TLS."""
    auth: Mapping[str, Iterable[bytes]] = context.auth_context()
    if b"ssl" not in auth.get(TRANSPORT, ()):
        return None
    names = (name.decode(errors="replace") for name in auth.get(ALTERNATIVE_NAMES, ()))
    caller = caller_of_names(tuple(names))
    if Role.SERVICE in caller.roles:
        passed_on = tuple(
            str(value) for key, value in context.invocation_metadata() or () if key == CALLER
        )
        if passed_on:
            return caller_of_names(passed_on)
    return caller


def check_node(context: Context, node: str) -> None:
    """Raises Forbidden if the caller has a certificate that is not this node's."""
    caller = caller_of(context)
    if caller is not None and node not in caller.nodes:
        raise not_this_node(node)


def not_this_node(node: str) -> Forbidden:
    """The error for speaking for a node without its certificate."""
    return Forbidden(
        f"this certificate may not speak for node {node!r}: it does not bear the URI "
        f"{NODE_URI}{node}"
        if node
        else "a node's certificate speaks for that node alone, and no node is named",
        reason="NOT_THIS_NODE",
        metadata={"node": node},
    )


def on_behalf_of(context: Context) -> tuple[tuple[str, str], ...]:
    """Metadata for a call that is passed on: for whom."""
    caller = caller_of(context)
    uris = tuple((CALLER, uri) for uri in caller.uris) if caller is not None else ()
    client = client_of(context)
    program = ((CLIENT, client),) if client else ()
    return (*uris, (CALLER_TEXT, caller_text(context)), *program)


def client_of(context: Context) -> str:
    """The program that calls, as it says itself; empty: it says nothing but gRPC's own name."""
    said = ""
    for key, value in context.invocation_metadata() or ():
        if key == CLIENT:
            said = str(value)
            break
        if key == USER_AGENT:
            said = str(value).partition(" grpc-")[0]
    plain = said if said.isascii() and said.isprintable() else ""
    return "" if plain.startswith("grpc-") else plain[:CLIENT_MOST]


def caller_text(context: Context) -> str:
    """Who makes a call, for logs: the certificate's common name and roles, or else the address.

    What another replica says of a call that it passed on counts as for `caller_of`.
    """
    auth: Mapping[str, Iterable[bytes]] = context.auth_context()
    has_tls = b"ssl" in auth.get(TRANSPORT, ())
    names = tuple(auth.get(ALTERNATIVE_NAMES, ()))
    if not has_tls or (URI + Role.SERVICE).encode() in names:
        for key, value in context.invocation_metadata() or ():
            if key == CALLER_TEXT:
                return str(value)
    if not has_tls:
        return _address_of(context.peer())
    return _text_of(tuple(auth.get(COMMON_NAME, ())), names)


@lru_cache(maxsize=4096)
def _text_of(common_names: tuple[bytes, ...], names: tuple[bytes, ...]) -> str:
    caller = caller_of_names(tuple(name.decode(errors="replace") for name in names))
    common = [name.decode(errors="backslashreplace") for name in common_names if name]
    text = ", ".join([*common, *caller.uris])
    return text.encode("ascii", "backslashreplace").decode() or "a certificate without names"


@lru_cache(maxsize=4096)
def _address_of(peer: str) -> str:
    """Of "ipv4:192.0.2.1:40000" the address; ports say nothing."""
    kind, _, rest = unquote(peer).partition(":")
    return rest.rpartition(":")[0].strip("[]") if kind in {"ipv4", "ipv6"} else kind
