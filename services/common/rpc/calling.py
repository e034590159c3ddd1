"""Who makes the call that is being served, for records of what was changed.

It is looked up only when something is recorded: a call that changes nothing pays nothing.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final

from services.common.audit.record import Who
from services.common.process.logs import current_request
from services.common.rpc.context import Context
from services.common.rpc.identity import caller_of, caller_text, client_of

UNAUTHENTICATED: Final = "unauthenticated"

current_call: ContextVar[Context] = ContextVar("current_call")
"""The call that is being served; set by `services.common.rpc.interceptors`."""


def who(service: str) -> Who:
    """Who asks; outside of a call it is `service` itself."""
    request_id = current_request.get("")
    context = current_call.get(None)
    if context is None:
        return Who(f"{service} itself", client=f"romana-{service}", request_id=request_id)
    caller, text = caller_of(context), caller_text(context)
    return Who(
        identity=f"{UNAUTHENTICATED} ({text})" if caller is None else text,
        roles=() if caller is None else tuple(caller.uris),
        client=client_of(context),
        request_id=request_id,
    )
