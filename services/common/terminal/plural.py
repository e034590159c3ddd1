"""Numbers with their noun."""

from __future__ import annotations


def count(number: int, noun: str) -> str:
    if number == 1:
        return f"{number:,} {noun}"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return f"{number:,} {noun.removesuffix('y')}ies"
    return f"{number:,} {noun}{'es' if noun.endswith('s') else 's'}"
