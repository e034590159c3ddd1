"""Policies on the node itself, of which some are not understood."""

from __future__ import annotations

from services.agent.kernel.nftables import table_names
from services.agent.rules.compose import Composer
from services.agent.rules.resources import Unreadable
from services.common.model.failsafe import Failsafe
from services.common.model.names import NodeName
from services.common.model.rules import Direction, NodeRules, Profile, RuleSet, RuleSetId
from tests.kernel.policy.rules import allow, rules

ONE, OTHER = rules("one", allow()), rules("other", direction=Direction.EGRESS)
UNKNOWN = RuleSetId("unknown")


def chains_of(profile: Profile, *known: RuleSet) -> set[str]:
    """Of the table of a node with such a profile."""
    composer = Composer(Failsafe(), None)
    composer.update({f"rules/{one.id}": one for one in known}, ())
    unread = {
        f"rules/{UNKNOWN}": Unreadable("what is it"),
        "node/n": NodeRules(NodeName("n"), profile),
    }
    composer.update(unread, ())
    composer.refresh()
    return set(composer.image().chains)


def test_what_is_understood_holds() -> None:
    chains = chains_of(Profile((ONE.id, UNKNOWN), (OTHER.id,)), ONE, OTHER)
    assert {table_names.NODE_INPUT, table_names.NODE_OUTPUT} <= chains
    assert {table_names.rule_set(ONE.id), table_names.rule_set(OTHER.id)} <= chains
    assert table_names.profile(Direction.INGRESS, [ONE.id]) in chains


def test_where_nothing_is_understood_no_policy_is_on_it() -> None:
    assert table_names.NODE_INPUT not in chains_of(Profile((UNKNOWN,), (UNKNOWN,)))
