from __future__ import annotations

from services.kubernetes.control.dirty import Dirty


def test_each_thing_is_taken_once_the_oldest_first() -> None:
    marked: Dirty[str] = Dirty()
    marked.mark(["a", "b", "a", "c"])
    assert len(marked) == 3
    assert marked.take(2) == ["a", "b"]
    marked.mark(["a"])
    assert marked.take(5) == ["c", "a"]
    assert not marked
    assert marked.take(5) == []
