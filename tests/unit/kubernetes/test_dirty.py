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


def test_what_has_changed_comes_before_what_is_to_be_compared() -> None:
    dirty: Dirty[str] = Dirty()
    dirty.mark_later("abc")
    assert not dirty.some_changed
    dirty.mark("xb")
    dirty.mark_later("x")
    assert (len(dirty), "x" in dirty, "a" in dirty) == (4, True, False)
    assert dirty.take(9) == ["x", "b"]
    assert dirty.take(1) == ["a"]
    dirty.drop("c")
    assert not dirty
