"""What is wrong with an object, as an event on it."""

from __future__ import annotations

from collections.abc import Sequence

from services.common.errors import InvalidInput, RomanaError, Violation
from services.kubernetes.cluster.recorder import Note, Subject
from services.kubernetes.objects.conditions import Finding
from services.kubernetes.objects.namespaces import Namespace
from services.kubernetes.objects.nodes import Node
from services.kubernetes.objects.pods import Pod
from services.kubernetes.objects.policies import NetworkPolicy

BAD_ANNOTATION = "RomanaBadAnnotation"
REFUSED = "RomanaRefused"
NOT_KEPT = "RomanaAddressNotKept"
FAILS_CLOSED = "RomanaFailsClosed"


def subject_of(item: Namespace | Node | Pod | NetworkPolicy) -> Subject:
    """The object that an event is about."""
    match item:
        case Namespace():
            return Subject("Namespace", "v1", "", item.name, item.uid)
        case Node():
            return Subject("Node", "v1", "", item.name, item.uid)
        case Pod():
            return Subject("Pod", "v1", item.namespace, item.name, item.object_uid)
        case NetworkPolicy():
            return Subject(item.kind, item.api_version, item.namespace, item.name, item.uid)


def bad_annotations(item: Namespace | Node | Pod, problems: Sequence[Violation]) -> Note:
    """Something of an object cannot be read, and counts as not said."""
    return Note(subject_of(item), BAD_ANNOTATION, _text(problems))


def refused(item: Namespace | Node | Pod | NetworkPolicy, error: RomanaError) -> Note:
    """A service does not take it."""
    if isinstance(error, InvalidInput) and error.violations:
        return Note(subject_of(item), REFUSED, _text(error.violations))
    return Note(subject_of(item), REFUSED, error.message)


def fails_closed(item: NetworkPolicy, problems: Sequence[Violation]) -> Note:
    """Rules of a policy are not understood."""
    return Note(subject_of(item), FAILS_CLOSED, _text(problems))


def in_force(item: NetworkPolicy, finding: Finding) -> Note:
    """Whether nodes hold to a policy as it is."""
    reason = finding.type if finding.holds else f"Not{finding.type}"
    return Note(subject_of(item), reason, finding.message, is_warning=not finding.holds)


def not_kept(pod: Pod, error: RomanaError) -> Note:
    """A pod gets other addresses than the one of its name had before."""
    return Note(subject_of(pod), NOT_KEPT, error.message)


def _text(problems: Sequence[Violation]) -> str:
    return "; ".join(f"{one.path}: {one.message}" if one.path else one.message for one in problems)
