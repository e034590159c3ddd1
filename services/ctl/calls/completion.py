"""Names for the shell's completion: asked of the services, with little patience.

Completion must never hang, print or fail: whatever goes wrong, there are no suggestions. Every verb
imports this; what asks is imported when a key is pressed.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import typer

from services.ctl.calls import service_addresses

TLS_OPTIONS = ("tls_ca", "tls_cert", "tls_key")


def nodes(ctx: typer.Context, incomplete: str) -> list[str]:
    return _matching(incomplete, _ask(ctx, "nodes"))


def networks(ctx: typer.Context, incomplete: str) -> list[str]:
    return _matching(incomplete, _ask(ctx, "networks"))


def groups(ctx: typer.Context, incomplete: str) -> list[str]:
    return _matching(incomplete, _ask(ctx, "groups"))


def reservations(ctx: typer.Context, incomplete: str) -> list[str]:
    return _matching(incomplete, _ask(ctx, "reservations"))


def policies(ctx: typer.Context, incomplete: str) -> list[str]:
    return _matching(incomplete, _ask(ctx, "policies"))


def device_groups(ctx: typer.Context, incomplete: str) -> list[str]:
    return _matching(incomplete, _ask(ctx, "device_groups"))


def tenants(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of tenants that something is known of."""
    return _matching(incomplete, _ask(ctx, "tenants"))


def endpoints_known(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of endpoints that policy knows."""
    return _matching(incomplete, _ask(ctx, "endpoints"))


def changes(ctx: typer.Context, incomplete: str) -> list[str]:
    """Revisions of the latest changes."""
    return _matching(incomplete, _ask(ctx, "changes"))


def _matching(incomplete: str, names: list[str]) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


def _ask(ctx: typer.Context, kind: str) -> list[str]:
    from services.common.tls import TlsFiles  # noqa: PLC0415
    from services.ctl.calls.completion_names import names_of  # noqa: PLC0415

    typed = {name: str(value or "") for name, value in ctx.params.items()}
    files = [Path(typed[name]) for name in TLS_OPTIONS if typed.get(name)]
    try:
        addresses = service_addresses.find(
            typed.get("topology_address", ""),
            typed.get("ipam_address", ""),
            os.environ,
            policy=typed.get("policy_address", ""),
        )
        named = TlsFiles(files[0], files[1], files[2]) if len(files) == len(TLS_OPTIONS) else None
        insecure = ctx.params.get("insecure", False)
        return asyncio.run(names_of(kind, addresses, named or addresses.tls, insecure=insecure))
    except Exception:  # noqa: BLE001  # the top of a completion: no suggestions, no noise
        return []
