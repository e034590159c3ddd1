from __future__ import annotations

import pytest

from services.ctl.views.usage_bar import bar


@pytest.mark.parametrize(
    ("used", "size", "drawn"),
    [
        (0, 100, "··········    0%"),
        (1, 1_000_000, "▏········· <0.1%"),
        (55, 100, "█████▌···· 55.0%"),
        (100, 100, "██████████  100%"),
        (7, 5, "██████████  100%"),
        (0, 0, "··········    0%"),
    ],
)
def test_a_bar_has_ten_characters_and_the_share(used: int, size: int, drawn: str) -> None:
    assert bar(used, size).plain == drawn
