from __future__ import annotations

from services.agent.steering.judgement import Judgement, judged


def test_the_first_probe_decides_and_then_as_many_in_a_row() -> None:
    found = judged(Judgement(), "silent", 3)
    assert found == Judgement(is_up=False, reason="silent")
    for _ in range(2):
        found = judged(found, "", 3)
        assert found.is_up is False
    found = judged(found, "silent", 3)  # not in a row
    assert found.contrary == 0
    for _ in range(3):
        found = judged(found, "", 3)
    assert found == Judgement(is_up=True)
