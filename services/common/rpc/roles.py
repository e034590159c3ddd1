"""What a certificate may call: a role by a URI among its names.

    romana:operator     everything but a node's streams
    romana:service      the same: a replica passes on what others asked of it
    romana:node:NAME    what reads, and what changes only that node's own
    none of these       what operators alone may do is refused: schedulers, monitoring

Only alternative names count: authorities tend to sign whatever common name is asked for.

Decided per method when a server is built, so that methods which are for everybody cost nothing.
Without TLS nobody is known, and everything is allowed. A node's streams are checked where their
first message is read, see `identity`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias

import grpc.aio

from services.common.errors import Forbidden
from services.common.rpc.identity import ALTERNATIVE_NAMES, NODE_URI, names_of

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Check: TypeAlias = Callable[[Any, frozenset[str]], None]
"""Of a request and its caller's names; raises Forbidden."""

OPERATOR_URI: Final = "romana:operator"
SERVICE_URI: Final = "romana:service"
_TRUSTED: Final = frozenset({OPERATOR_URI, SERVICE_URI})

_IPAM: Final = "romana.ipam.v1.IpamService/"
_POLICY: Final = "romana.policy.v1.PolicyService/"
_TOPOLOGY: Final = "romana.topology.v1.TopologyService/"

OPERATORS_ONLY: Final = frozenset(
    {
        _IPAM + "DeleteReservation",
        _POLICY + "ApplyPolicies",
        _POLICY + "CreatePolicy",
        _POLICY + "DeletePolicy",
        _POLICY + "DeleteTenant",
        _POLICY + "PutTenants",
        _POLICY + "UpdatePolicy",
        _TOPOLOGY + "ApplyTopology",
        _TOPOLOGY + "DeleteNode",
    }
)
NOT_FOR_NODES: Final = frozenset(
    {_IPAM + "AllocateStream", _POLICY + "DeleteEndpoint", _POLICY + "PutEndpoints"}
)
"""They are about any node, and no agent calls them."""
OWN_NODE: Final[Mapping[str, Callable[[Any], Iterable[str]]]] = {
    _IPAM + "AllocateAddress": lambda request: (request.spec.node,),
    _IPAM + "AllocateAddresses": lambda request: (spec.node for spec in request.specs),
    _IPAM + "ReleaseAddress": lambda request: (request.spec.node,),
    _IPAM + "ReleaseAddresses": lambda request: (spec.node for spec in request.specs),
    _TOPOLOGY + "RegisterNode": lambda request: (request.node.name,),
    _TOPOLOGY + "UpdateNode": lambda request: (request.node.name,),
}
"""Methods that change what belongs to a node, and the nodes that a request names."""


def check_of(method: str) -> Check | None:
    """What to check before a method, `package.Service/Method`; None: it is for everybody."""
    if method in OPERATORS_ONLY:
        return _check_operator
    if method in NOT_FOR_NODES:
        return _check_no_node
    if (nodes := OWN_NODE.get(method)) is not None:
        return lambda request, names: _check_own(nodes(request), names)
    return None


def guarded(method: str, behaviour: Callable[[Any, Context], Any]) -> Callable[[Any, Context], Any]:
    """A handler that refuses callers who may not call the method."""
    check = check_of(method)
    if check is None:
        return behaviour

    async def checked(request: object, context: Context) -> object:
        names = names_of(context.auth_context(), (ALTERNATIVE_NAMES,))
        if names is not None and not names & _TRUSTED:
            check(request, names)
        return await behaviour(request, context)

    return checked


def _check_operator(request: object, names: frozenset[str]) -> None:  # noqa: ARG001
    raise Forbidden(
        f"that is for operators: this certificate does not bear the URI {OPERATOR_URI}",
        reason="NOT_OPERATOR",
    )


def _check_no_node(request: object, names: frozenset[str]) -> None:  # noqa: ARG001
    if any(name.startswith(NODE_URI) for name in names):
        raise Forbidden("that is not for the certificate of a node", reason="NOT_OPERATOR")


def _check_own(nodes: Iterable[str], names: frozenset[str]) -> None:
    own = [name for name in names if name.startswith(NODE_URI)]
    if not own:
        return
    for node in nodes:
        if NODE_URI + node not in own:
            raise Forbidden(
                f"this certificate may not speak for node {node!r}",
                reason="NOT_THIS_NODE",
                metadata={"node": node},
            )
