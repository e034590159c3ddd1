"""What an ADD asks for: the configuration and what a runtime demands, as a specification. Pure.

A configuration, beside the fields that every plug-in has:

    tenant         else `args.cni.tenant`, the CNI_ARGS ROMANA_TENANT or K8S_POD_NAMESPACE
    segment        else `args.cni.segment`, the CNI_ARGS ROMANA_SEGMENT, or the value of the label
                   `segmentLabel`
    network        one address of this network; `networks`: one of each; else `args.cni.network`,
                   else of any
    family         4 or 6
    mtu            bytes
    defaultRoute   "auto": the interface gets the default route if the container has none by
                   another; "always": in its place; "never": not
    routes         a list of `{"dst": PREFIX}`: what the container reaches by it besides
    labels         for policy; those of `args.cni.labels` are added
    socket         where the agent listens
    orchestrator   "kubernetes": pods are known by their UIDs, and what they want is what the
                   controller of Kubernetes says; then of the above only mtu, defaultRoute, routes
                   and socket

A runtime may demand addresses (IP of CNI_ARGS, `args.cni.ips` and `args.cni.addresses`,
`runtimeConfig.ips`) and a MAC address (MAC of CNI_ARGS, `args.cni.mac`, `runtimeConfig.mac`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from services.agent.cni.protocol import BAD_CONFIGURATION, CniError, Json, Request
from services.agent.endpoints.spec import EndpointSpec, read_mac, read_route
from services.agent.kernel.wiring import DefaultRoute
from services.agent.model import AddressWant, WantedEndpoint
from services.common.model.addresses import read_interface
from services.common.model.names import NetworkName, Segment, Tenant
from services.common.model.network import Prefix

SEGMENT_LABEL: Final = "romana.io/segment"


def spec_of(request: Request) -> EndpointSpec:
    """The endpoint that an ADD asks for; raises CniError."""
    config = request.config
    chosen = _chosen(config)
    labels = {**_labels(config), **_runtime_labels(config)}
    tenant = (
        text_of(config, "tenant")
        or text_of(chosen, "tenant")
        or request.arguments.get("ROMANA_TENANT", "")
        or request.arguments.get("K8S_POD_NAMESPACE", "")
    )
    if not tenant:
        raise CniError(
            BAD_CONFIGURATION,
            "no tenant: give `tenant` in the configuration, or K8S_POD_NAMESPACE in CNI_ARGS",
        )
    segment = (
        text_of(config, "segment")
        or text_of(chosen, "segment")
        or request.arguments.get("ROMANA_SEGMENT", "")
        or labels.get(text_of(config, "segmentLabel") or SEGMENT_LABEL, "")
    )
    return EndpointSpec(
        name=request.name,
        tenant=Tenant(tenant),
        segment=Segment(segment),
        interface=request.interface,
        namespace=request.namespace,
        addresses=_wants(request),
        mtu=_mtu(config),
        labels=labels,
        origin=request.origin,
        default_route=_default_route(config),
        routes=_routes(config),
        mac=_mac(request),
    )


def spec_of_pod(request: Request, wanted: WantedEndpoint) -> EndpointSpec:
    """The endpoint that an ADD for a pod asks for, as its orchestrator says; raises CniError."""
    if wanted.refusal:
        raise CniError(BAD_CONFIGURATION, f"{request.pod}: {wanted.refusal}")
    return EndpointSpec(
        name=request.name,
        tenant=wanted.tenant,
        segment=wanted.segment,
        interface=request.interface,
        namespace=request.namespace,
        addresses=wanted.addresses,
        mtu=_mtu(request.config),
        labels=wanted.labels,
        origin=request.origin,
        container=request.container,
        allocation=wanted.allocation,
        default_route=_default_route(request.config),
        routes=_routes(request.config),
        mac=_mac(request),
    )


def _wants(request: Request) -> tuple[AddressWant, ...]:
    config = request.config
    number = config.get("family", 0)
    if not isinstance(number, int) or isinstance(number, bool) or number not in {0, 4, 6}:
        raise CniError(BAD_CONFIGURATION, f"family: {number!r} is neither 4 nor 6")
    networks = _networks(config) or _networks(_chosen(config)) or [""]
    fixed = _fixed(request)
    if fixed:
        only = NetworkName(networks[0]) if len(networks) == 1 and networks[0] else None
        return tuple(AddressWant(only, address=text) for text in fixed)
    if networks == [""] and not number:
        return ()
    return tuple(AddressWant(NetworkName(item) if item else None, number) for item in networks)


def _networks(config: Json) -> Sequence[str]:
    listed = config.get("networks") or []
    if not isinstance(listed, list) or not all(isinstance(item, str) for item in listed):
        raise CniError(BAD_CONFIGURATION, "networks: is no list of names")
    one = text_of(config, "network")
    return listed or ([one] if one else [])


def _fixed(request: Request) -> Sequence[str]:
    """Addresses that the runtime demands, by any of the ways there are."""
    chosen = _chosen(request.config)
    listed: object = request.arguments.get("IP", "").split(",") if "IP" in request.arguments else []
    for said in (
        chosen.get("ips"),
        chosen.get("addresses"),
        object_of(request.config, "runtimeConfig").get("ips"),
    ):
        listed = listed or said or []
    if not isinstance(listed, list):
        raise CniError(BAD_CONFIGURATION, "ips: is no list")
    try:
        return [str(read_interface(str(text).strip()).ip) for text in listed]
    except ValueError as error:
        raise CniError(BAD_CONFIGURATION, f"ips: {error}") from None


def _labels(config: Json) -> dict[str, str]:
    labels = config.get("labels") or {}
    if not isinstance(labels, dict):
        raise CniError(BAD_CONFIGURATION, "labels: is no object")
    return {str(key): str(value) for key, value in labels.items()}


def _runtime_labels(config: Json) -> dict[str, str]:
    """`args.cni.labels`: a list of key and value, by CNI's CONVENTIONS.md."""
    return {
        str(item["key"]): str(item.get("value", ""))
        for item in objects_of(_chosen(config), "labels")
        if "key" in item
    }


def _chosen(config: Json) -> Json:
    """What whoever starts the container chose: `args.cni`, by CNI's CONVENTIONS.md."""
    return object_of(object_of(config, "args"), "cni")


def object_of(config: Json, key: str) -> Json:
    value = config.get(key) or {}
    if not isinstance(value, dict):
        raise CniError(BAD_CONFIGURATION, f"{key}: is no object")
    return value


def _default_route(config: Json) -> DefaultRoute:
    text = text_of(config, "defaultRoute") or DefaultRoute.AUTO
    try:
        return DefaultRoute(text)
    except ValueError:
        raise CniError(
            BAD_CONFIGURATION, f"defaultRoute: {text!r} is none of {', '.join(DefaultRoute)}"
        ) from None


def _routes(config: Json) -> tuple[str, ...]:
    found: dict[Prefix, None] = {}
    for index, item in enumerate(objects_of(config, "routes")):
        path = f"routes[{index}]"
        if item.keys() - {"dst"}:
            others = ", ".join(sorted(item.keys() - {"dst"}))
            raise CniError(BAD_CONFIGURATION, f"{path}: has {others}: it takes dst alone")
        try:
            prefix = read_route(str(item.get("dst", "")))
        except ValueError as error:
            raise CniError(BAD_CONFIGURATION, f"{path}.dst: {error}") from None
        found[prefix] = None
    return tuple(map(str, found))


def _mac(request: Request) -> str:
    """The one that the runtime demands; empty: none."""
    for path, text in (
        ("MAC of CNI_ARGS", request.arguments.get("MAC", "")),
        ("args.cni.mac", text_of(_chosen(request.config), "mac")),
        ("runtimeConfig.mac", text_of(object_of(request.config, "runtimeConfig"), "mac")),
    ):
        if text:
            try:
                return read_mac(text)
            except ValueError as error:
                raise CniError(BAD_CONFIGURATION, f"{path}: {error}") from None
    return ""


def objects_of(value: Json, key: str) -> list[dict[str, object]]:
    listed = value.get(key) or []
    if not isinstance(listed, list) or not all(isinstance(item, dict) for item in listed):
        raise CniError(BAD_CONFIGURATION, f"{key}: is no list of objects")
    return listed


def _mtu(config: Json) -> int:
    mtu = config.get("mtu", 0)
    if not isinstance(mtu, int) or isinstance(mtu, bool) or mtu < 0:
        raise CniError(BAD_CONFIGURATION, f"mtu: {mtu!r} is no number of bytes")
    return mtu


def text_of(config: Json, key: str) -> str:
    value = config.get(key, "")
    if not isinstance(value, str):
        raise CniError(BAD_CONFIGURATION, f"{key}: {value!r} is no text")
    return value
