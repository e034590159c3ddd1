"""A request to apply a topology, wherever it comes from: messages, a file, or a built-in name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from services.common.document.fields import Findings
from services.common.errors import InvalidInput, Violation
from services.common.model.layout import Layout
from services.common.model.names import NodeName
from services.common.model.node import Node
from services.topology.checks.topology import check
from services.topology.forms.builtin import Builtin, builtin
from services.topology.forms.file import read_document
from services.topology.layout.plan import Plan, plan_topology
from services.topology.layout.usage import InUse
from services.topology.model.draft import SpecDraft
from services.topology.model.spec import Spec


@dataclass(frozen=True, slots=True)
class Asked:
    """A checked request."""

    spec: Spec
    problems: tuple[Violation, ...]
    findings: Findings
    """Knows the lines of a file."""

    @classmethod
    def of(cls, draft: SpecDraft, findings: Findings | None = None) -> Asked:
        """Checks a draft; its problems wait for those that only the state can tell."""
        found = findings or Findings()
        spec, problems = check(draft)
        return cls(spec, (*found.problems, *problems), found)

    def plan(self, layout: Layout, nodes: Mapping[NodeName, Node], usage: InUse, now: int) -> Plan:
        """What it would do; raises InvalidInput with everything that is wrong."""
        try:
            return plan_topology(
                self.spec, layout, nodes, usage.blocks(), now=now, problems=self.problems
            )
        except InvalidInput as error:
            raise InvalidInput.of(self.findings.located(list(error.violations))) from None


def read_initial(name: str) -> Asked:
    """The topology of the setting `initial_topology`: a built-in name, or the path of a file.

    Raises:
        InvalidInput: it cannot be read.
    """
    if name in set(Builtin):
        return Asked.of(builtin(Builtin(name), at=""))
    try:
        text = Path(name).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput.at("initial_topology", f"cannot read {name}: {error}") from error
    document = read_document(text)
    return Asked.of(document.draft, document.findings)
