"""Address groups: who is in them, in pages of 64 addresses.

A group is made of a selector; for ports that an egress rule names there is one for each number
that the name stands for among those selected. Its id is a hash of what it is made of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from typing import Final

from services.common.model.rules import CidrBlock, GroupId, GroupPage, PolicyName, Protocol
from services.policy.engine.addresses import PAGE_BITS, V6, Block
from services.policy.engine.subjects import Subject
from services.policy.model import EndpointSelector, LabelSelector, NamedPort, NodeSelector

ID_BYTES: Final = 16
"""Of ids, against collisions made on purpose: whoever writes labels has a hand in them."""
_LOW: Final = (1 << PAGE_BITS) - 1
_V6_PAGE: Final = V6 >> PAGE_BITS


@dataclass(frozen=True, slots=True)
class GroupSpec:
    """What a group is made of. The selector is in canonical form."""

    selector: EndpointSelector | NodeSelector
    block: CidrBlock | None = None
    """Only addresses in it."""
    port: NamedPort | None = None
    """Only of endpoints that call this number by this name."""

    @property
    def id(self) -> GroupId:
        """Equal for equal specs only."""
        selector = self.selector
        about: tuple[object, ...]
        if isinstance(selector, NodeSelector):
            about = ("nodes", selector.names, _labels(selector.labels))
        else:
            about = (
                selector.tenants,
                selector.segments,
                selector.networks,
                _labels(selector.labels),
                _labels(selector.tenant_labels),
            )
        block, port = self.block, self.port
        if block is not None:
            about += ("block", str(block.cidr), tuple(map(str, block.exceptions)))
        if port is not None:
            about += ("port", str(port.protocol), port.name, port.port)
        return GroupId(content_hash(about))


def _labels(selector: LabelSelector) -> tuple[tuple[str, str, tuple[str, ...]], ...]:
    return tuple((one.key, str(one.operator), one.values) for one in selector.requirements)


def content_hash(content: tuple[object, ...]) -> str:
    """An id of nested tuples of texts and numbers, the same on every replica."""
    return blake2b(repr(content).encode(), digest_size=ID_BYTES).hexdigest()


class Filter:
    """Which of a subject's addresses are meant."""

    __slots__ = ("_block", "_networks")

    def __init__(self, selector: EndpointSelector | NodeSelector, block: CidrBlock | None) -> None:
        self._block = None if block is None else Block(block)
        networks = () if isinstance(selector, NodeSelector) else selector.networks
        self._networks = frozenset(networks) or None

    def keys_of(self, subject: Subject) -> Sequence[int]:
        """Keys of a subject that is selected."""
        networks, block = self._networks, self._block
        if networks is None and block is None:
            return subject.keys
        return [
            key
            for key, network in zip(subject.keys, subject.networks, strict=True)
            if (networks is None or network in networks) and (block is None or block.holds(key))
        ]


class Group:
    """The addresses of those whom a selector selects, in pages."""

    __slots__ = (
        "_filter",
        "_pages",
        "_pages_before",
        "_touched",
        "id",
        "is_published",
        "spec",
        "topic",
        "uses",
    )

    def __init__(self, group: GroupId, spec: GroupSpec, touched: set[Group]) -> None:
        """`touched`: where it says that `take` has something."""
        self.id = group
        self.spec = spec
        self.topic = f"group/{group}"
        self.uses = 0
        """Rule sets that have it."""
        self.is_published = False
        """Its pages were handed out once; since then `_before` has what they were."""
        self._filter = Filter(spec.selector, spec.block)
        self._pages: dict[int, int] = {}
        self._pages_before: dict[int, int] = {}
        self._touched = touched
        touched.add(self)

    def keys_of(self, subject: Subject) -> Sequence[int]:
        """Keys that a subject, selected by its selector, has in it."""
        port = self.spec.port
        if port is not None and port.port not in subject.numbers(port.protocol, port.name):
            return ()
        return self._filter.keys_of(subject)

    def add(self, keys: Iterable[int]) -> None:
        pages = self._pages
        for key in keys:
            page, bit = key >> PAGE_BITS, 1 << (key & _LOW)
            had = pages.get(page, 0)
            if not had & bit:
                pages[page] = had | bit
                if self.is_published:
                    self._note(page, had)

    def remove(self, key: int) -> None:
        page, bit = key >> PAGE_BITS, 1 << (key & _LOW)
        had = self._pages.get(page, 0)
        if had & bit:
            if had == bit:
                del self._pages[page]
            else:
                self._pages[page] = had ^ bit
            if self.is_published:
                self._note(page, had)

    def _note(self, page: int, had: int) -> None:
        self._pages_before.setdefault(page, had)
        self._touched.add(self)

    def __contains__(self, key: int) -> bool:
        return _is_in(self._pages, key)

    def as_it_is(self) -> Callable[[int], bool]:
        """Says which keys are in it now, whatever comes."""
        return partial(_is_in, dict(self._pages))

    def changed_parts(self) -> Iterator[tuple[str, GroupPage | None]]:
        """Ids and values of pages that changed since the last time; None: it is gone."""
        if not self.is_published:
            self.is_published = True
            for page, members in self._pages.items():
                yield self._page(page, members)
            return
        before, self._pages_before = self._pages_before, {}
        for page, had in before.items():
            members = self._pages.get(page, 0)
            if members != had:
                yield self._page(page, members)

    def published_parts(self) -> Iterator[str]:
        """Ids of the pages that were published last."""
        if self.is_published:
            for page in {**self._pages, **self._pages_before}:
                if self._pages_before.get(page, 1):
                    yield self._page(page, 0)[0]

    def _page(self, page: int, members: int) -> tuple[str, GroupPage | None]:
        if page & _V6_PAGE:
            base, bits = (page ^ _V6_PAGE) << PAGE_BITS, 128
        else:
            base, bits = page << PAGE_BITS, 32
        return (
            f"page/{self.id}/{base:0{bits // 4}x}",
            GroupPage(self.id, base, bits, members) if members else None,
        )


def _is_in(pages: Mapping[int, int], key: int) -> bool:
    return bool(pages.get(key >> PAGE_BITS, 0) >> (key & _LOW) & 1)


class Split:
    """For which numbers a port's name stands among those who are selected."""

    __slots__ = ("_counts", "_filter", "name", "protocol", "users")

    def __init__(
        self,
        selector: EndpointSelector | NodeSelector,
        block: CidrBlock | None,
        protocol: Protocol | None,
        name: str,
    ) -> None:
        self.protocol = protocol
        self.name = name
        self.users: set[PolicyName] = set()
        """Policies whose rules depend on it."""
        self._filter = Filter(selector, block)
        self._counts: dict[int, int] = {}

    @property
    def numbers(self) -> list[int]:
        """In order."""
        return sorted(self._counts)

    def count(self, subject: Subject, change: int) -> bool:
        """Adds (1) or takes out (-1) a subject; says whether there are other numbers now."""
        numbers = subject.numbers(self.protocol, self.name)
        if not numbers or not self._filter.keys_of(subject):
            return False
        changed = False
        for number in numbers:
            count = self._counts.get(number, 0)
            changed = changed or not count or not count + change
            if count + change:
                self._counts[number] = count + change
            else:
                del self._counts[number]
        return changed
