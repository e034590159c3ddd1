"""The API server as a server of HTTP: where it is, who we are to it, what its errors mean.

lightkube knows how to read kubeconfigs and the files of ServiceAccounts, whose tokens it reads anew
once they are refused, and has types for what is written. Lists and watches are read here, since its
own decode whole objects, ask for no bookmarks, and lose deletions after a 410.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Final, TypeVar

import httpx2
import lightkube
import msgspec
from lightkube.config.client_adapter import user_auth, verify_cluster
from lightkube.config.kubeconfig import KubeConfig, SingleConfig
from lightkube.core.exceptions import ApiError, ConfigError

from services.common import errors
from services.common.errors import InvalidInput, RomanaError, Unavailable

FIELD_MANAGER: Final = "romana"
CALL_SECONDS: Final = 10.0
SLACK_SECONDS: Final = 15.0
"""After the end that a watch was given, until it is taken for dead: servers do not always send
bookmarks, so silence says nothing before."""
_KEEPALIVE: Final = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 3),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 20_000),
)
"""A connection that leads nowhere any more is noticed within 20 s."""

_JSON: Final = {"Content-Type": "application/json"}
_MERGE: Final = {"Content-Type": "application/merge-patch+json"}
_APPLY: Final = {"Content-Type": "application/apply-patch+yaml"}

T = TypeVar("T")


class Gone(RomanaError):
    """The version that was asked for is no longer there: list again."""


_KINDS: Final[Mapping[int, type[RomanaError]]] = {
    400: errors.InvalidInput,
    401: errors.Forbidden,
    403: errors.Forbidden,
    404: errors.NotFound,
    409: errors.Conflict,
    410: Gone,
    422: errors.InvalidInput,
}


class _Status(msgspec.Struct):
    message: str = ""
    reason: str = ""
    code: int = 0


_status = msgspec.json.Decoder(_Status)


class ApiServer:
    """Its calls. Raises RomanaErrors; what may work later is Unavailable."""

    def __init__(self, config: SingleConfig) -> None:
        """Connects when something is asked."""
        cluster, user = config.cluster, config.user
        assert user is not None
        transport = httpx2.AsyncHTTPTransport(
            verify=verify_cluster(cluster, user, config.abs_file, trust_env=False),
            socket_options=_KEEPALIVE,
        )
        self._http = httpx2.AsyncClient(
            base_url=cluster.server,
            auth=user_auth(user),
            transport=transport,
            trust_env=False,
            timeout=httpx2.Timeout(CALL_SECONDS),
        )
        self.objects = lightkube.AsyncClient(
            config,
            timeout=httpx2.Timeout(CALL_SECONDS),
            field_manager=FIELD_MANAGER,
            trust_env=False,
        )
        """For single objects, by `call`."""

    async def close(self) -> None:
        """Closes all connections."""
        await self._http.aclose()
        await self.objects.close()

    async def get(self, path: str, parameters: Mapping[str, str]) -> bytes:
        """The body of what is there."""
        try:
            answer = await self._http.get(path, params=dict(parameters))
        except httpx2.HTTPError as error:
            raise _broken(error) from error
        if answer.status_code != httpx2.codes.OK:
            raise refusal(answer.status_code, answer.content)
        return answer.content

    async def post(self, path: str, body: object) -> None:
        """Makes an object whose answer does not matter."""
        await self._change("POST", path, {}, msgspec.json.encode(body), _JSON)

    async def apply(self, path: str, body: object) -> None:
        """Makes the object at a path as said, as far as it is said, whoever said otherwise."""
        parameters = {"fieldManager": FIELD_MANAGER, "force": "true"}
        content = msgspec.json.encode(body)
        await self._change("PATCH", path, parameters, content, _APPLY)

    async def merge(self, path: str, body: object) -> None:
        """Changes an object as far as it is said; Conflict if it names another version."""
        parameters = {"fieldManager": FIELD_MANAGER}
        await self._change("PATCH", path, parameters, msgspec.json.encode(body), _MERGE)

    async def delete(self, path: str) -> None:
        """Removes an object; NotFound if there is none."""
        await self._change("DELETE", path, {}, b"", _JSON)

    def watch(
        self, path: str, parameters: Mapping[str, str], seconds: int
    ) -> AbstractAsyncContextManager[httpx2.Response]:
        """An answer that goes on for so long."""
        timeout = httpx2.Timeout(CALL_SECONDS, read=seconds + SLACK_SECONDS)
        return self._http.stream(
            "GET",
            path,
            params={**parameters, "watch": "true", "timeoutSeconds": str(seconds)},
            timeout=timeout,
        )

    async def _change(
        self,
        method: str,
        path: str,
        parameters: Mapping[str, str],
        content: bytes,
        headers: Mapping[str, str],
    ) -> None:
        try:
            answer = await self._http.request(
                method, path, params=dict(parameters), content=content, headers=dict(headers)
            )
        except httpx2.HTTPError as error:
            raise _broken(error) from error
        if not answer.is_success:
            raise refusal(answer.status_code, answer.content)

    async def call(self, request: Callable[[lightkube.AsyncClient], Awaitable[T]]) -> T:
        """Does something with single objects."""
        try:
            return await request(self.objects)
        except ApiError as error:
            raise refusal_of(error.status.code or 0, error.status.message or str(error)) from error
        except httpx2.HTTPError as error:
            raise _broken(error) from error


def translate(error: httpx2.HTTPError) -> Unavailable:
    """What a broken connection means."""
    return _broken(error)


def refusal(code: int, body: bytes) -> RomanaError:
    """What an answer means that is none."""
    try:
        message = _status.decode(body).message
    except msgspec.MsgspecError:
        message = body[:200].decode(errors="replace")
    return refusal_of(code, message)


def refusal_of(code: int, message: str) -> RomanaError:
    """The error of a status; a server that has trouble is away."""
    text = f"the API server says {code}: {message}"
    return _KINDS.get(code, Unavailable)(text)


def load_config(file: Path | None) -> SingleConfig:
    """That of a kubeconfig, or without one that of this pod's ServiceAccount."""
    try:
        found = (
            KubeConfig.from_file(file) if file is not None else KubeConfig.from_service_account()
        )
        config = found.get()
    except (ConfigError, OSError, KeyError) as error:
        what = str(file) if file is not None else "the ServiceAccount of this pod"
        raise InvalidInput.at("kubeconfig", f"{what} cannot be read: {error}") from error
    if config is None or config.user is None:
        raise InvalidInput.at("kubeconfig", f"{file} says nothing of a cluster and a user")
    return config


def _broken(error: httpx2.HTTPError) -> Unavailable:
    return Unavailable(f"the API server cannot be reached: {str(error) or type(error).__name__}")
