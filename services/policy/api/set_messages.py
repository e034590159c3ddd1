"""Sets of policies of the API, as messages and as documents. Runs beside the event loop."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Final

from romana.policy.v1 import policy_service_pb2 as api

from services.common.errors import InvalidInput, Violation
from services.common.model.names import NetworkName, Tenant, labels
from services.common.model.rules import PolicyName
from services.policy.api import messages_in
from services.policy.checks.policies import check_references
from services.policy.forms.documents import Form, read_document
from services.policy.model import Policy, PolicyNetwork, TenantRecord
from services.policy.store.apply import PolicySet

MAX_WARNINGS: Final = 100
MAX_POLICIES: Final = 20_000
"""In one set."""

_FORMS: Final = {
    api.POLICY_FORMAT_UNSPECIFIED: None,
    api.POLICY_FORMAT_ROMANA: Form.ROMANA,
    api.POLICY_FORMAT_KUBERNETES: Form.KUBERNETES,
    api.POLICY_FORMAT_ROMANA_V2: Form.ROMANA_V2,
}


def read(
    request: api.ApplyPoliciesRequest,
    networks: Mapping[NetworkName, PolicyNetwork],
    groups: Container[str],
) -> tuple[PolicySet, list[api.PolicyWarning]]:
    """The set, and what of it is not held to as it is written; raises InvalidInput with everything
    that is wrong with the first wrong part."""
    policies: list[Policy] = []
    warnings: list[api.PolicyWarning] = []
    tenants: list[TenantRecord] = []
    policy_places: dict[PolicyName, str] = {}
    tenant_places: dict[Tenant, str] = {}
    problems = list(labels(request.prune_labels, "prune_labels"))
    for number, message in enumerate(request.policies):
        at = f"policies[{number}]"
        try:
            policy = messages_in.policy(message, at)
        except InvalidInput as error:
            problems += error.violations
        else:
            policies.append(policy)
            problems += check_references(policy, networks, f"{at}.")
            if (there := policy_places.setdefault(policy.name, at)) != at:
                another = f"there is another policy {policy.name[:80]!r} in {there}"
                problems.append(Violation(f"{at}.name", another))
    for number, part in enumerate(request.documents):
        if part.format not in _FORMS:
            raise InvalidInput.at(f"documents[{number}].format", f"{part.format} is not a format")
        document = read_document(
            part.content,
            _FORMS[part.format],
            source=part.source,
            default_namespace=part.default_namespace,
            networks=tuple(networks.values()),
            groups=groups,
        )
        problems += document.references(networks)
        problems += document.also_in(policy_places, tenant_places)
        place = part.source or f"documents[{number}]"
        policy_places |= {policy.name: place for policy in document.policies}
        tenant_places |= {tenant.name: place for tenant in document.tenants}
        policies += document.policies
        tenants += document.tenants
        warnings += [
            api.PolicyWarning(policy=name, field=one.path, message=one.message)
            for name, one in document.warnings[: MAX_WARNINGS - len(warnings)]
        ]
    if len(policies) > MAX_POLICIES:
        problems.append(
            Violation("policies", f"{len(policies)} policies, at most {MAX_POLICIES} at once")
        )
    if problems:
        raise InvalidInput.of(problems)
    return PolicySet(policies, tenants, dict(request.prune_labels)), warnings
