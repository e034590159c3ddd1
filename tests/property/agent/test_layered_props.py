"""A layered mapping is what a plain one would be, and what was made before does not change."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from services.agent.kernel import layered
from services.agent.kernel.layered import Layered, flat

KEYS = st.integers(0, 12)
CHANGES = st.tuples(st.dictionaries(KEYS, st.one_of(st.none(), st.integers())), st.sets(KEYS))


@given(st.dictionaries(KEYS, st.integers()), st.lists(CHANGES, max_size=12), st.integers(0, 6))
@settings(deadline=None)
def test_it_is_what_a_plain_one_would_be(
    first: dict[int, int | None], changes: list[tuple[dict[int, int | None], set[int]]], least: int
) -> None:
    before, layered._LEAST = layered._LEAST, least  # type: ignore[misc]  # small, to see it grow
    try:
        made, plain = [Layered(dict(first))], [dict(first)]
        for puts, removals in changes:
            made.append(made[-1].changed(puts, removals))
            rest = {key: value for key, value in plain[-1].items() if key not in removals}
            plain.append({**rest, **puts})
        for one, other in zip(made, plain, strict=True):
            assert one == other
            assert flat(one) == other
            assert len(one) == len(other)
            assert sorted(one) == sorted(other)
            assert [key in one for key in range(13)] == [key in other for key in range(13)]
            assert [one.get(key) for key in range(13)] == [other.get(key) for key in range(13)]
    finally:
        layered._LEAST = before  # type: ignore[misc]
