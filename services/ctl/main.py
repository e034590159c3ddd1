"""The `romana` command.

Nouns are loaded when they are used, so that `romana --help` and completion of nouns cost little
more than Python's own start.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer
from typer.core import TyperGroup

from services.ctl.calls import values
from services.ctl.failures.exit_codes import EPILOG, ExitCode
from services.ctl.views import standard_streams

NOUNS = {
    "topology": ("topology", "Networks and the tree of prefix groups."),
    "network": ("network", "CIDRs that addresses come from."),
    "node": ("node", "Machines with an agent."),
    "address": ("address", "Allocate, release and find addresses."),
    "block": ("block", "Slices of prefixes, each held by one node and one owner."),
    "reservation": ("reservation", "Addresses that are never handed out."),
    "policy": ("policy", "Who may talk to whom."),
    "device": ("device", "Firewalls and the like, through which rules lead."),
    "tenant": ("tenant", "Labels and isolation of tenants."),
    "endpoint": ("endpoint", "Interfaces of this node's containers and VMs."),
    "agent": ("agent", "The agent of this node: status, and the CNI plug-in."),
    "doctor": ("doctor", "What this node lacks, before anything is installed on it."),
    "evaluate": ("evaluate", "Where an endpoint may go, and how much room is left there."),
    "ipam": ("ipam", "The ipam service itself: consistency and status."),
    "audit": ("audit", "Who changed what, and when all nodes had it."),
    "undo": ("undo", "Make what a change changed be as it was."),
    "certificates": ("certificates", "An authority, and certificates for mutual TLS."),
    "status": ("status", "Health and versions of all services."),
    "up": ("up", "Run etcd and all services on this machine."),
    "serve": ("serve", "Run one service in the foreground."),
    "lab": ("lab", "A data center of network namespaces on this machine."),
    "demo": ("demo", "Show Romana at work on this machine, step by step."),
    "examples": ("examples", "Write the example files into a folder."),
    "support-bundle": ("support_bundle", "Versions, settings, states and metrics, in one file."),
    "version": ("version", "The version of this command."),
}
"""Module in `services.ctl` and one line of help, by noun, in the order of the help."""

SERVERS = {"up", "serve"}
"""Nouns whose children's logs are to say which handshakes gRPC refused."""

SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

HELP = """Topology-aware IPAM: addresses from the right network, on the right part of the topology.

\b
  romana up                                          a cluster on this machine
  romana topology apply dc.yaml                      say what the data center looks like
  romana node register n1 --address 192.168.0.11 --label rack=1
  romana address allocate web-1 --node n1 --tenant shop
  romana status
"""


class Deferred(TyperGroup):
    """A noun that is imported at the moment it is used."""

    def __init__(self, noun: str) -> None:
        module, text = NOUNS[noun]
        super().__init__(name=noun, help=text)
        self._module = module

    def make_context(  # type: ignore[no-untyped-def]  # typer's classes are private
        self, info_name, args, parent=None, **extra
    ):
        """Loads the noun and lets it take over."""
        app: typer.Typer = importlib.import_module(f"services.ctl.verbs.{self._module}").app
        command = typer.main.get_command(app)
        return command.make_context(info_name, args, parent=parent, **extra)


def root() -> TyperGroup:
    """The whole command."""
    app = typer.Typer(
        name="romana",
        help=HELP,
        epilog=EPILOG,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings=SETTINGS,
    )
    app.callback()(_options)
    command = typer.main.get_command(app)
    assert isinstance(command, TyperGroup)
    for noun in NOUNS:
        command.add_command(Deferred(noun), noun)
    return command


def run(arguments: Sequence[str] | None = None) -> None:
    """Runs the command and ends the process with its exit code."""
    # most of a short command is imports, of which nothing is garbage
    gc.set_threshold(100_000, 50, 100)
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # there are none to look for
    streams = standard_streams.guard()
    given = sys.argv[1:] if arguments is None else arguments
    if not set(given[:1]) & SERVERS:
        # gRPC's own words on refused handshakes; what they mean is in our message
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    values.make_here()
    try:
        root().main(args=arguments, prog_name="romana")
    except SystemExit as end:
        got_out = streams.give_back()
        sys.exit(end.code if end.code or got_out else ExitCode.OUTPUT)
    except OSError as error:  # a file, a folder or a disk of the user's
        if os.environ.get("ROMANA_DEBUG"):
            traceback.print_exc()
        where = f": {error.filename}" if error.filename else ""
        sys.stderr.write(f"Error: {error.strerror or error}{where}\n")
        sys.exit(ExitCode.REFUSED)
    except Exception as error:  # noqa: BLE001  # the top
        from services.ctl.failures.uncaught import exit_code_of  # noqa: PLC0415  # seldom needed

        sys.exit(exit_code_of(error))


def _options(
    version: Annotated[  # its callback does it
        bool,
        typer.Option(
            "--version",
            help="Show the version and exit.",
            callback=lambda value: _version() if value else None,
            is_eager=True,
        ),
    ] = False,
) -> None:
    pass


def _version() -> None:
    from importlib import metadata  # noqa: PLC0415  # 15 ms that only --version has to pay

    sys.stdout.write(f"romana {metadata.version('romana')}\n")
    raise typer.Exit


if __name__ == "__main__":
    run()
