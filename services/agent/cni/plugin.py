#!/usr/bin/python3 -IS
"""romana-cni and romana-ipam: what a container runtime starts. Passes everything on to the agent.

plugin.c is the same as a static program, which is sooner done; this one is for where that could not
be built. A file of its own, to be copied to the runtime's plug-in folder (`romana agent
install-cni`). It imports nothing but built-in modules, as long as nothing fails: a runtime starts
it twice or more for every container, and `json` alone would double its time.

Protocol, on the agent's Unix socket: environment as KEY=VALUE, each ended by NUL (ROMANA_PLUGIN is
there when it is called as romana-ipam), another NUL, the network configuration, end of writing;
back comes the exit status as a digit, a newline, and what to print.
"""

import _socket
import posix
import sys

SOCKET = "/run/romana/cni.sock"
SECONDS = 60.0
"""The agent answers within its own, shorter deadlines."""
UNREADABLE = 6
"""The specification's code for input that cannot be decoded."""
VERSIONS = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
NAMES = (
    b"CNI_COMMAND",
    b"CNI_CONTAINERID",
    b"CNI_NETNS",
    b"CNI_IFNAME",
    b"CNI_ARGS",
    b"CNI_PATH",
)


def _read(descriptor: int) -> bytes:
    parts = []
    while part := posix.read(descriptor, 65536):
        parts.append(part)
    return b"".join(parts)


def _write(content: bytes) -> None:
    while content:
        content = content[posix.write(1, content) :]


class _Plain:
    """What the json module tells its scanner by default."""

    strict = True
    object_hook = object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float


class _BrokenInput(Exception):
    """The network configuration is no JSON object."""


def _configured(config: bytes) -> "dict[str, object]":
    """By the json module's own scanner, without the module: only it takes time to import."""
    try:
        text = config.decode().strip()
        try:
            from _json import make_scanner  # noqa: PLC0415

            made, _ = make_scanner(_Plain)(text, 0)  # type: ignore[arg-type]  # any such object
        except (ImportError, AttributeError):  # another Python
            import json  # noqa: PLC0415

            made = json.loads(text)
    # SystemError: without the module, the scanner does not find the exception that it would raise
    except (ValueError, StopIteration, SystemError, RecursionError) as error:
        raise _BrokenInput from error
    if not isinstance(made, dict):
        raise _BrokenInput
    return made


def _failed(config: bytes, code: int, message: str) -> int:
    """Whatever else failed, input that is cut off comes first: the same again cannot succeed."""
    import json  # noqa: PLC0415

    version: object = VERSIONS[-1]
    try:
        version = _configured(config).get("cniVersion", version)
    except _BrokenInput:
        if code != UNREADABLE:
            code, message = UNREADABLE, "the network configuration is no whole JSON object"
    answer = {"cniVersion": version, "code": code, "msg": message}
    _write(json.dumps(answer).encode() + b"\n")
    return 1


def _socket_of(config: bytes, *, delegated: bool) -> str:
    """A delegated plug-in's own part of the configuration is called `ipam`."""
    if b'"socket"' not in config:
        return SOCKET
    made = _configured(config)
    own = made.get("ipam")
    if delegated and isinstance(own, dict) and own.get("socket"):
        made = own
    return str(made.get("socket") or SOCKET)


def _ask(path: str, request: bytes) -> bytes:
    channel = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    channel.settimeout(SECONDS)
    channel.connect(path)
    channel.sendall(request)
    channel.shutdown(_socket.SHUT_WR)
    parts = []
    while part := channel.recv(65536):
        parts.append(part)
    channel.close()
    return b"".join(parts)


def _version(config: bytes) -> int:
    """Answers without the agent; without any input, too, as somebody types it."""
    import json  # noqa: PLC0415

    version = _configured(config).get("cniVersion", VERSIONS[-1]) if config else VERSIONS[-1]
    known = {"cniVersion": version, "supportedVersions": VERSIONS}
    _write(json.dumps(known).encode() + b"\n")
    return 0


def run() -> int:
    """Returns the exit status."""
    environment = posix.environ
    command = environment.get(b"CNI_COMMAND", b"")
    delegated = sys.argv[0].rpartition("/")[2] == "romana-ipam"
    config = b""
    path = SOCKET
    try:
        config = _read(0)
        if command == b"VERSION":
            return _version(config)
        path = _socket_of(config, delegated=delegated)
    except OSError as error:
        return _failed(config, UNREADABLE, "standard input cannot be read: " + str(error.strerror))
    except _BrokenInput:
        return _failed(config, UNREADABLE, "the network configuration is no whole JSON object")
    request = b"".join(
        name + b"=" + environment[name] + b"\0" for name in NAMES if name in environment
    )
    if delegated:
        request += b"ROMANA_PLUGIN=romana-ipam\0"
    unavailable = 50 if command == b"STATUS" else 11
    try:
        answer = _ask(path, request + b"\0" + config)
    except PermissionError:
        return _failed(config, 5, "no permission to use " + path + ": run as the agent's user")
    except TimeoutError:
        return _failed(config, unavailable, "the agent at " + path + " does not answer")
    except OSError as error:
        message = "the agent cannot be reached at " + path + ": " + str(error.strerror or error)
        return _failed(config, unavailable, message)
    if answer[1:2] != b"\n":
        return _failed(config, unavailable, "the agent at " + path + " ended before it answered")
    _write(answer[2:])
    return 0 if answer[:1] == b"0" else 1


if __name__ == "__main__":
    posix._exit(run())  # noqa: SLF001  # nothing to clean up: saves the interpreter's own
