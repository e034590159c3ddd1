"""Options that several verbs share, and what completes them."""

from __future__ import annotations

from typing import Annotated

import typer

from services.ctl.calls import completion

KernelOption = Annotated[
    bool,
    typer.Option("--kernel", help="Ask the node's agent what its kernel has of it."),
]
NodeArgument = Annotated[
    str,
    typer.Argument(
        metavar="NAME|ADDRESS",
        help="Node, by its name or an address of its own.",
        autocompletion=completion.nodes,
    ),
]
NetworkArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="Network.", autocompletion=completion.networks)
]
NodeOption = Annotated[
    str,
    typer.Option("--node", metavar="NAME", help="Node.", autocompletion=completion.nodes),
]
NodeFilter = Annotated[
    str,
    typer.Option(
        "--node", metavar="NAME", help="Only on this node.", autocompletion=completion.nodes
    ),
]
NetworkOption = Annotated[
    str,
    typer.Option("--network", metavar="NAME", help="Network.", autocompletion=completion.networks),
]
NetworkFilter = Annotated[
    str,
    typer.Option(
        "--network",
        metavar="NAME",
        help="Only on this network.",
        autocompletion=completion.networks,
    ),
]
GroupFilter = Annotated[
    str,
    typer.Option(
        "--group",
        metavar="PATH",
        help="Only in this prefix group or below.",
        autocompletion=completion.groups,
    ),
]
TenantOption = Annotated[
    str,
    typer.Option("--tenant", metavar="NAME", help="Tenant.", autocompletion=completion.tenants),
]
SegmentOption = Annotated[str, typer.Option("--segment", metavar="NAME", help="Its segment.")]
TenantFilter = Annotated[
    str,
    typer.Option(
        "--tenant",
        metavar="NAME",
        help="Only of this tenant.",
        autocompletion=completion.tenants,
    ),
]
SegmentFilter = Annotated[
    str, typer.Option("--segment", metavar="NAME", help="Only of this segment.")
]
FamilyOption = Annotated[
    str, typer.Option("--family", metavar="4|6", help="Address family; default: either.")
]
AddressOption = Annotated[
    str, typer.Option("--address", metavar="ADDRESS", help="Exactly this address.")
]
WantOption = Annotated[
    list[str],
    typer.Option(
        "--want",
        metavar="[network=N][,family=4|6][,address=A]",
        help="One of several addresses; repeat for each. All are allocated, or none.",
    ),
]
LabelOption = Annotated[
    list[str],
    typer.Option("--label", "-l", metavar="KEY=VALUE", help="Repeat for several."),
]
LimitOption = Annotated[
    int, typer.Option("--limit", metavar="N", min=0, help="At most this many; 0: all.")
]
IgnoreNotFoundOption = Annotated[
    bool,
    typer.Option("--ignore-not-found", help="A name that does not exist is no error, for scripts."),
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")]
AllowStrandedOption = Annotated[
    bool,
    typer.Option(
        "--allow-stranded",
        help="Allow addresses in use to be stranded: they stay, and no more are allocated from "
        "their blocks.",
    ),
]
