"""Topology's objects as records of changes have them."""

from __future__ import annotations

from typing import Final

from services.common.audit.documents import document
from services.common.audit.record import ObjectKind
from services.common.audit.writer import Texts
from services.common.model.layout import Layout
from services.common.model.node import Node
from services.topology.api import messages_out


def _node(node: Node) -> str:
    return document(messages_out.node(node, Layout(), ""))


TEXTS: Final[Texts] = {ObjectKind.NODE: _node}
"""A topology's text is made by the store, in a thread."""
