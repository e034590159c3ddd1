"""Ids by which what was done is found in the logs of all services that took part.

A caller gives one in the metadata of a call, or in the message's own field, which goes before it;
a call without gets one made up. It goes along with whatever is asked of others for its sake.
"""

from __future__ import annotations

from typing import Final

from services.common.process.logs import current_request
from services.common.rpc.context import Context
from services.common.rpc.metadata_keys import REQUEST_ID_KEY
from services.common.tracing import spans

MAX_REQUEST_ID: Final = 128
"""Characters; more are not logged."""


def of_metadata(context: Context) -> str:
    """The caller's id for the call; empty if it gave none, or none that can be logged."""
    for key, value in context.invocation_metadata() or ():
        if key == REQUEST_ID_KEY:
            fits = isinstance(value, str) and len(value) <= MAX_REQUEST_ID and _is_plain(value)
            return str(value) if fits else ""
    return ""


def take_from(message: object) -> None:
    """Logs by the id in a message from now on, if it has one."""
    text = getattr(message, "request_id", "")
    if text:
        plain = text if _is_plain(text) else text.encode("unicode_escape").decode()
        current_request.set(plain[:MAX_REQUEST_ID])


def passed_on() -> tuple[tuple[str, str], ...]:
    """Metadata for a call that is made for the sake of the one that is being served."""
    request_id = current_request.get("")
    metadata = ((REQUEST_ID_KEY, request_id),) if request_id else ()
    return (*metadata, *spans.carried())


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable()
