"""What the fault suite's ledger of answers finds wrong."""

from __future__ import annotations

from tests.support.journal import Action, Entry, Journal

A, B = "10.1.0.1", "10.1.0.2"


def journal(*entries: Entry) -> Journal:
    made = Journal()
    for entry in entries:
        made.add(entry)
    return made


def entry(
    name: str,
    action: Action,
    began: float,
    *addresses: str,
    attempts: int = 1,
    existed: bool = False,
) -> Entry:
    """Answered a second after it was sent."""
    return Entry(name, action, began, began + 1, attempts, "replica", addresses, existed)


def test_an_address_of_two_names_at_one_time_is_a_duplicate() -> None:
    made = journal(
        entry("one", "allocate", 0, A),
        entry("two", "allocate", 2, B, A),
        entry("one", "release", 5, A),
    )
    assert [text.split()[0] for text in made.overlaps()] == [A]
    assert not made.unexpected


def test_an_address_that_was_released_first_is_none() -> None:
    made = journal(
        entry("one", "allocate", 0, A),
        entry("one", "release", 2, A),
        entry("two", "allocate", 2, A),  # answered after the release was sent
    )
    assert not [*made.overlaps()]
    assert made.held == {"two": (A,)}


def test_an_address_that_comes_back_too_early_did_not_rest() -> None:
    made = journal(
        entry("one", "allocate", 0, A),
        entry("one", "release", 2, A),
        entry("two", "allocate", 3, A),
    )
    assert [*made.hasty("10.1.", rest=5)]
    assert not [*made.hasty("10.1.", rest=1.5)]
    assert not [*made.hasty("10.2.", rest=5)]


def test_another_answer_than_before_is_unexpected() -> None:
    for second in (
        entry("one", "allocate", 2, B, existed=True),  # another address
        entry("one", "allocate", 2, A),  # the same, but forgotten meanwhile
        entry("one", "release", 2),  # lost
        entry("one", "release", 2, A, B),  # more than was told
        entry("two", "allocate", 2, B, existed=True),  # never asked for
        entry("two", "release", 2, B),
    ):
        assert len(journal(entry("one", "allocate", 0, A), second).unexpected) == 1, second


def test_what_was_tried_before_may_have_been_done() -> None:
    made = journal(
        entry("one", "allocate", 0, A, attempts=2, existed=True),
        entry("one", "release", 2, attempts=2),
    )
    assert not made.unexpected
    assert not made.held
