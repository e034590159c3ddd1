"""Messages of `romana.agent.v1` as domain values, with field paths in errors, and back."""

from __future__ import annotations

from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp
from romana.agent.v1 import agent_service_pb2 as pb
from romana.agent.v1 import endpoint_pb2
from romana.ipam.v1 import allocation_pb2
from romana.sync.v1 import sync_pb2

from services.agent.endpoints.spec import (
    DEFAULT_INTERFACE,
    EndpointSpec,
    read_mac,
    read_route,
    violations,
)
from services.agent.endpoints.view import EndpointState, EndpointView
from services.agent.kernel.wiring import DefaultRoute, gateway_of
from services.agent.model import AddressWant
from services.agent.status import NodeStatus, PolicyStatus
from services.common.errors import InvalidInput, Violation
from services.common.model import names
from services.common.model.names import EndpointName, NetworkName, Segment, Tenant
from services.common.model.network import Dns

_FAMILIES: Final = {
    allocation_pb2.FAMILY_UNSPECIFIED: 0,
    allocation_pb2.FAMILY_IPV4: 4,
    allocation_pb2.FAMILY_IPV6: 6,
}
_DEFAULT_ROUTES: Final = {
    endpoint_pb2.ENDPOINT_DEFAULT_ROUTE_UNSPECIFIED: DefaultRoute.AUTO,
    endpoint_pb2.ENDPOINT_DEFAULT_ROUTE_AUTO: DefaultRoute.AUTO,
    endpoint_pb2.ENDPOINT_DEFAULT_ROUTE_ALWAYS: DefaultRoute.ALWAYS,
    endpoint_pb2.ENDPOINT_DEFAULT_ROUTE_NEVER: DefaultRoute.NEVER,
}
_STATES: Final = {
    EndpointState.ATTACHING: endpoint_pb2.ENDPOINT_STATE_ATTACHING,
    EndpointState.ATTACHED: endpoint_pb2.ENDPOINT_STATE_ATTACHED,
    EndpointState.DETACHING: endpoint_pb2.ENDPOINT_STATE_DETACHING,
    EndpointState.DEGRADED: endpoint_pb2.ENDPOINT_STATE_DEGRADED,
}


def parse_spec(message: endpoint_pb2.EndpointSpec) -> EndpointSpec:
    """Reads what a caller asks for; raises InvalidInput."""
    target = message.target.WhichOneof("target")
    if target is None:
        raise InvalidInput.at("spec.target", "is missing: give a namespace or an interface")
    if target == "namespace":
        namespace = message.target.namespace.path
        interface = message.target.namespace.interface or DEFAULT_INTERFACE
        if not namespace:
            raise InvalidInput.at("spec.target.namespace.path", "is missing")
    else:
        namespace, interface = "", message.target.interface.interface
    found: list[Violation] = []
    default_route, routes, mac = _ways(message, found, is_container=target == "namespace")
    wants = []
    for index, item in enumerate(message.addresses):
        path = f"spec.addresses[{index}]"
        if item.network:
            found += names.resource_name(item.network, f"{path}.network")
        if item.family not in _FAMILIES:
            found.append(Violation(f"{path}.family", f"{item.family} is not a Family"))
        wants.append(
            AddressWant(
                NetworkName(item.network) if item.network else None,
                _FAMILIES.get(item.family, 0),
                item.address,
            )
        )
    spec = EndpointSpec(
        name=EndpointName(message.name),
        tenant=Tenant(message.tenant),
        segment=Segment(message.segment),
        interface=interface,
        namespace=namespace,
        addresses=tuple(wants),
        mtu=message.mtu,
        labels=dict(message.labels),
        labels_follow=message.labels_follow,
        default_route=default_route,
        routes=routes,
        mac=mac,
        dhcp=message.dhcp,
    )
    found += violations(spec)
    if found:
        raise InvalidInput.of(found)
    return spec


def _ways(
    message: endpoint_pb2.EndpointSpec, found: list[Violation], *, is_container: bool
) -> tuple[DefaultRoute, tuple[str, ...], str]:
    """Default route, further routes and MAC address; adds what is wrong with them."""
    given = {
        "default_route": message.default_route,
        "routes": len(message.routes),
        "mac": message.mac,
    }
    if not is_container:
        found += [
            Violation(f"spec.{name}", "is for containers: this interface is there already")
            for name, value in given.items()
            if value
        ]
        return DefaultRoute.AUTO, (), ""
    if message.default_route not in _DEFAULT_ROUTES:
        problem = f"{message.default_route} is not an EndpointDefaultRoute"
        found.append(Violation("spec.default_route", problem))
    routes: dict[str, None] = {}
    for index, text in enumerate(message.routes):
        try:
            routes[str(read_route(text))] = None
        except ValueError as error:
            found.append(Violation(f"spec.routes[{index}]", str(error)))
    mac = ""
    try:
        mac = read_mac(message.mac) if message.mac else ""
    except ValueError as error:
        found.append(Violation("spec.mac", str(error)))
    default_route = _DEFAULT_ROUTES.get(message.default_route, DefaultRoute.AUTO)
    return default_route, tuple(routes), mac


def parse_name(text: str) -> EndpointName:
    """Reads an endpoint's name; raises InvalidInput."""
    found = list(names.endpoint_name(text, "name"))
    if found:
        raise InvalidInput.of(found)
    return EndpointName(text)


def endpoint(view: EndpointView, dns: Dns) -> endpoint_pb2.Endpoint:
    """An endpoint, with what its networks say of DNS."""
    spec, made = view.record.spec, view.record.endpoint
    target = endpoint_pb2.EndpointTarget()
    if spec.namespace:
        target.namespace.path = spec.namespace
        target.namespace.interface = spec.interface
    else:
        target.interface.interface = spec.interface
    message = endpoint_pb2.Endpoint(
        name=spec.name,
        tenant=spec.tenant,
        segment=spec.segment,
        target=target,
        labels=spec.labels,
        state=_STATES[view.state],
        problem=view.problem,
        dhcp=spec.dhcp,
        nameservers=[*map(str, dns.nameservers)],
        search_domains=dns.search,
    )
    if made is not None:
        message.addresses.extend(
            endpoint_pb2.EndpointAddress(
                address=str(item.address),
                network=item.network,
                gateway=str(gateway_of(item.address)),
            )
            for item in made.addresses
        )
        message.host_interface = made.host_interface
        message.mac = made.mac
        message.mtu = made.mtu
        message.create_time.CopyFrom(Timestamp(seconds=made.create_time))
    return message


def status(
    node: str, version: str, reasons: tuple[str, ...], endpoints: int, found: NodeStatus
) -> pb.GetStatusResponse:
    """What the agent says of itself."""
    return pb.GetStatusResponse(
        node=node,
        version=version,
        ready=not reasons,
        reasons=reasons,
        connected=found.connected,
        applied=sync_pb2.Position(epoch=found.epoch, revision=found.revision),
        failures=[
            sync_pb2.Failure(resource=resource, reason="NOT_APPLIED", message=message)
            for resource, message in sorted(found.failures.items())
        ],
        endpoints=endpoints,
        routes=found.routes,
        repaired=found.repaired,
        policy=None if found.policy is None else _policy(found.policy),
        warnings=found.warnings,
    )


def _policy(found: PolicyStatus) -> pb.PolicyEnforcement:
    return pb.PolicyEnforcement(
        connected=found.connected,
        applied=sync_pb2.Position(epoch=found.epoch, revision=found.revision),
        open_endpoints=found.open_endpoints,
        rule_sets=found.rule_sets,
        groups=found.groups,
        rules=[
            pb.RuleCount(
                policy=one.policy,
                direction=one.direction,
                rule=one.rule,
                packets=one.packets,
                bytes=one.size,
            )
            for one in found.rules
        ],
        dropped=found.dropped,
    )
