"""Answers as JSON: values of ours, messages by the API's own names, and errors."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, Final

import msgspec
import structlog
from starlette.requests import Request
from starlette.responses import Response

from services.common import errors
from services.common.errors import InvalidInput, RomanaError, internal_error
from services.common.rpc.connecting import in_words
from services.console.api.caller import SCOPE, Looking

log = structlog.get_logger(__name__)

NUMBER_MOST: Final = (1 << 53) - 1
"""That JavaScript takes for what it is: sizes of IPv6 are cut to it."""

Handler = Callable[[Request, Looking], Awaitable[object]]

_STATUS: Final[Mapping[type[RomanaError], HTTPStatus]] = {
    errors.InvalidInput: HTTPStatus.BAD_REQUEST,
    errors.NotFound: HTTPStatus.NOT_FOUND,
    errors.AlreadyExists: HTTPStatus.CONFLICT,
    errors.Exhausted: HTTPStatus.CONFLICT,
    errors.WrongState: HTTPStatus.CONFLICT,
    errors.Conflict: HTTPStatus.CONFLICT,
    errors.Forbidden: HTTPStatus.FORBIDDEN,
    errors.Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
}


def json(value: object, status: HTTPStatus = HTTPStatus.OK) -> Response:
    """An answer."""
    return Response(
        msgspec.json.encode(_cut(msgspec.to_builtins(value))), status, media_type="application/json"
    )


def endpoint(handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    """Makes answers of what a handler returns or raises."""

    async def answer(request: Request) -> Response:
        looking: Looking = request.scope[SCOPE]
        try:
            looking.check_reader()
            value = await handler(request, looking)
        except RomanaError as error:
            return failed(error)
        except Exception:
            log.exception("request_failed", path=request.url.path)
            return failed(internal_error())
        return value if isinstance(value, Response) else json(value)

    return answer


def failed(error: RomanaError) -> Response:
    """An error as the services tell it."""
    status = next(
        (_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS),
        HTTPStatus.INTERNAL_SERVER_ERROR,
    )
    words = in_words(error.message)
    violations = error.violations if isinstance(error, InvalidInput) else ()
    return json(
        {
            "reason": error.reason,
            "message": error.message if words == error.message else f"a service is away: {words}",
            "violations": [{"path": one.path, "message": one.message} for one in violations],
        },
        status,
    )


def _cut(value: Any) -> Any:
    if isinstance(value, int) and value > NUMBER_MOST:
        return NUMBER_MOST
    if isinstance(value, list):
        return [_cut(each) for each in value]
    if isinstance(value, dict):
        return {name: _cut(each) for name, each in value.items()}
    return value
