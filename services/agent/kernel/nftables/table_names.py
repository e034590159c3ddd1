"""Names in the table `inet romana`.

    forward, input, ...     base chains, and what they share
    e-HASH, i-HASH          how an endpoint's egress or ingress is judged; shared where equal
    e-HASH-t, i-HASH-t      the part after ADMIN, where that has a PASS
    r-HASH                  a rule set
    d-HASH, a-HASH          the log of a rule that denies, or of one that is only audited
    g4-HASH, g6-HASH        an address group
    o4-HASH, o6-HASH        owners' blocks
    b4-HASH, b6-HASH        prefixes; p-HASH: ports
    c-HASH                  counter of a rule of a policy

Nothing depends on the order in which things came: an agent that starts finds what is there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final

from services.common.model.rules import Direction, GroupId, PolicyName, RuleSetId

FORWARD: Final = "forward"
INPUT: Final = "input"
SOURCES: Final = "sources"
STRANGE: Final = "strange_source"
OUTPUT: Final = "output"
MID_STREAM: Final = "mid_stream"
TO_ENDPOINT: Final = "to_endpoint"
NODE_INPUT: Final = "node_input"
NODE_OUTPUT: Final = "node_output"
MASQUERADE: Final = "masquerade"

INTERFACES: Final = "interfaces"
SOURCES_4: Final = "sources4"
SOURCES_6: Final = "sources6"
FROM_ENDPOINT: Final = "from_endpoint"
TO_4: Final = "to4"
TO_6: Final = "to6"
ITSELF: Final = "itself"
SPEAKS_6: Final = "speaks6"
LINK_6: Final = "link6"
ANY_LINK_6: Final = "any_link6"
ANSWERING: Final = "answering"
ASKING: Final = "asking"
ENDED_4: Final = "ended4"
ENDED_6: Final = "ended6"

SPOOFED: Final = "spoofed"
CLOSED: Final = "closed"
CUT: Final = "cut"
DENIED: Final = {Direction.INGRESS: "denied_ingress", Direction.EGRESS: "denied_egress"}
"""Counters of what is dropped for no rule of anybody's."""
DROPS: Final = (SPOOFED, CLOSED, CUT, *DENIED.values())


def digest(*parts: str) -> str:
    """Sixteen digits that stand for some texts."""
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=8).hexdigest()


def rule_set(identity: RuleSetId) -> str:
    """Chain of a rule set."""
    return f"r-{digest(identity)}"


def profile(direction: Direction, identities: Iterable[RuleSetId]) -> str:
    """Chain of a profile."""
    return f"{direction.value[0]}-{digest(*identities)}"


def group(identity: GroupId, version: int) -> str:
    """Set of an address group's members of one family."""
    return f"g{version}-{digest(identity)}"


def blocks(identity: GroupId, version: int) -> str:
    """Set of the blocks of one family of a group that is made of them."""
    return f"o{version}-{digest(identity)}"


def counter(policy: PolicyName, direction: Direction, rule: str) -> str:
    """Counter of a policy's rule."""
    return f"c-{digest(policy, direction.value, rule)}"
