"""The Container Network Interface, 0.3.0 to 1.1.0: what a runtime asks, and what it is told. Pure.

https://github.com/containernetworking/cni/blob/v1.1.0/SPEC.md. The executable that the runtime
starts only passes its environment and its input on; all of the specification is here, in
`asked` and in `told`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from services.agent.endpoints.spec import EndpointSpec
from services.common import errors
from services.common.errors import RomanaError
from services.common.model import names
from services.common.model.names import EndpointName
from services.common.model.pods import pod_endpoint

VERSIONS: Final = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
ORIGIN: Final = "cni/"
KUBERNETES: Final = "kubernetes"
VALID_ATTACHMENTS: Final = "cni.dev/valid-attachments"

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")

Json = Mapping[str, object]


class Command(StrEnum):
    """CNI_COMMAND."""

    ADD = "ADD"
    DEL = "DEL"
    CHECK = "CHECK"
    GC = "GC"
    STATUS = "STATUS"
    VERSION = "VERSION"


@dataclass(eq=False)
class CniError(Exception):
    """An error of the protocol."""

    code: int
    """1 to 99 are the specification's."""
    message: str
    details: str = ""

    def __str__(self) -> str:
        return self.message


VERSION_UNSUPPORTED: Final = 1
CONTAINER_UNKNOWN: Final = 3
BAD_ENVIRONMENT: Final = 4
DECODING_FAILED: Final = 6
BAD_CONFIGURATION: Final = 7
TRY_AGAIN: Final = 11
NOT_AVAILABLE: Final = 50
EXHAUSTED: Final = 100
REFUSED: Final = 101
NOT_FOUND: Final = 102
TAKEN: Final = 103
FORBIDDEN: Final = 104
NOT_AS_IT_SHOULD_BE: Final = 105
INTERNAL: Final = 199

_SINCE: Final = {Command.CHECK: "0.4.0", Command.GC: "1.1.0", Command.STATUS: "1.1.0"}
_CODES: Final[Mapping[type[RomanaError], int]] = MappingProxyType(
    {
        errors.InvalidInput: BAD_CONFIGURATION,
        errors.Exhausted: EXHAUSTED,
        errors.WrongState: REFUSED,
        errors.NotFound: NOT_FOUND,
        errors.AlreadyExists: TAKEN,
        errors.Forbidden: FORBIDDEN,
        errors.Unavailable: TRY_AGAIN,
        errors.Conflict: TRY_AGAIN,
    }
)


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod, as kubelet names it."""

    namespace: str
    name: str
    uid: str

    def __str__(self) -> str:
        return f"pod {self.namespace}/{self.name} ({self.uid})"


@dataclass(frozen=True, slots=True)
class Request:
    """What a runtime asks."""

    command: Command
    version: str
    """Of the configuration; results are in its form."""
    network: str
    """Name of the configuration."""
    container: str
    interface: str
    namespace: str
    """Path; may be empty for DEL."""
    config: Json
    arguments: Mapping[str, str] = field(default_factory=dict)
    """CNI_ARGS."""

    @property
    def pod(self) -> Pod | None:
        """The pod that it is for, where an orchestrator says what pods want; raises CniError."""
        orchestrator = self.config.get("orchestrator")
        if orchestrator is None:
            return None
        if orchestrator != KUBERNETES:
            raise CniError(
                BAD_CONFIGURATION, f"orchestrator: {orchestrator!r} is not {KUBERNETES!r}"
            )
        namespace, name, uid = (
            self.arguments.get(f"K8S_POD_{part}", "") for part in ("NAMESPACE", "NAME", "UID")
        )
        if not (namespace and name and uid):
            raise CniError(
                BAD_ENVIRONMENT,
                "CNI_ARGS lacks K8S_POD_NAMESPACE, K8S_POD_NAME or K8S_POD_UID",
            )
        return Pod(namespace, name, uid)

    @property
    def name(self) -> EndpointName:
        """The endpoint's name: its pod's, else the specification's key of an attachment."""
        pod = self.pod
        if pod is not None:
            return pod_endpoint(pod.namespace, pod.name, pod.uid)
        return endpoint_name(self.network, self.container, self.interface)

    @property
    def origin(self) -> str:
        """What all endpoints of this configuration have in common."""
        return ORIGIN + self.network


def endpoint_name(network: str, container: str, interface: str) -> EndpointName:
    """Unique, and legible: none of the parts has a slash."""
    return EndpointName(f"{network}/{container}/{interface}")


def parse(environment: Mapping[str, str], content: bytes) -> Request:
    """Reads an invocation; raises CniError."""
    try:
        command = Command(environment.get("CNI_COMMAND", ""))
    except ValueError:
        raise CniError(
            BAD_ENVIRONMENT, f"CNI_COMMAND is {environment.get('CNI_COMMAND', '')!r}"
        ) from None
    try:
        config = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise CniError(DECODING_FAILED, f"the network configuration is not JSON: {error}") from None
    if not isinstance(config, dict):
        raise CniError(DECODING_FAILED, "the network configuration is no JSON object")
    version = str(config.get("cniVersion", "") or "0.1.0")
    if version not in VERSIONS:
        raise CniError(
            VERSION_UNSUPPORTED,
            f"cniVersion {version} is not supported",
            f"supported: {', '.join(VERSIONS)}",
        )
    since = _SINCE.get(command)
    if since is not None and VERSIONS.index(version) < VERSIONS.index(since):
        raise CniError(
            VERSION_UNSUPPORTED, f"cniVersion {version} does not allow {command}: {since} does"
        )
    network = str(config.get("name", ""))
    if not _NAME.fullmatch(network):
        raise CniError(BAD_CONFIGURATION, f"name: {network!r} is not the name of a network")
    request = Request(
        command=command,
        version=version,
        network=network,
        container=environment.get("CNI_CONTAINERID", ""),
        interface=environment.get("CNI_IFNAME", ""),
        namespace=environment.get("CNI_NETNS", ""),
        config=config,
        arguments=_arguments(environment.get("CNI_ARGS", "")),
    )
    if command in {Command.ADD, Command.DEL, Command.CHECK}:
        _check(request)
    return request


def _check(request: Request) -> None:
    if not _NAME.fullmatch(request.container):
        raise CniError(BAD_ENVIRONMENT, f"CNI_CONTAINERID is {request.container[:80]!r}")
    for violation in names.interface_name(request.interface, "CNI_IFNAME"):
        raise CniError(BAD_ENVIRONMENT, f"{violation.path}: {violation.message}")
    if request.command is not Command.DEL and not request.namespace.startswith("/"):
        raise CniError(BAD_ENVIRONMENT, f"CNI_NETNS is {request.namespace[:80]!r}: no path")


def key_of(spec: EndpointSpec) -> EndpointName:
    """The specification's key of an attachment, as GC names those that are to stay."""
    if not spec.container:
        return spec.name
    network = spec.origin.removeprefix(ORIGIN)
    return endpoint_name(network, spec.container, spec.interface)


def valid_attachments(request: Request) -> frozenset[EndpointName]:
    """The endpoints that a GC says to keep; null is an empty list, as Go writes it.

    CniError without a list: it is not known then what may go.
    """
    if VALID_ATTACHMENTS not in request.config:
        raise CniError(
            BAD_CONFIGURATION, f"GC needs {VALID_ATTACHMENTS}: without it nothing is detached"
        )
    listed = request.config[VALID_ATTACHMENTS]
    if listed is None:
        listed = []
    if not isinstance(listed, list):
        raise CniError(BAD_CONFIGURATION, f"{VALID_ATTACHMENTS}: is no list")
    found = set()
    for item in listed:
        if not isinstance(item, dict) or not item.get("containerID") or not item.get("ifname"):
            raise CniError(BAD_CONFIGURATION, f"{VALID_ATTACHMENTS}: {item!r} is no attachment")
        found.add(endpoint_name(request.network, str(item["containerID"]), str(item["ifname"])))
    return frozenset(found)


def version_answer(content: bytes) -> dict[str, object]:
    """What VERSION prints."""
    try:
        asked = json.loads(content).get("cniVersion", VERSIONS[-1])
    except (ValueError, AttributeError, RecursionError):
        asked = VERSIONS[-1]
    return {"cniVersion": asked, "supportedVersions": list(VERSIONS)}


def error_answer(version: str, error: CniError) -> dict[str, object]:
    """What a failed invocation prints."""
    made: dict[str, object] = {
        "cniVersion": version,
        "code": error.code,
        "msg": error.message,
    }
    if error.details:
        made["details"] = error.details
    return made


def of_error(error: RomanaError) -> CniError:
    """An error of the agent in the protocol's words."""
    code = next((_CODES[kind] for kind in type(error).__mro__ if kind in _CODES), INTERNAL)
    if error.reason == "NAMESPACE_NOT_FOUND":
        code = CONTAINER_UNKNOWN
    elif isinstance(error, errors.InvalidInput) and any(
        violation.path.startswith("spec.target") for violation in error.violations
    ):
        code = BAD_ENVIRONMENT
    return CniError(code, error.message, error.reason)


def _arguments(text: str) -> Mapping[str, str]:
    made = {}
    for part in filter(None, text.split(";")):
        key, equals, value = part.partition("=")
        if not (key and equals):
            raise CniError(BAD_ENVIRONMENT, f"CNI_ARGS: {part!r} is not KEY=VALUE")
        made[key] = value
    return made
