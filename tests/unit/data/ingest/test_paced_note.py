"""Lines of a program that tries again and again."""

from __future__ import annotations

from data.ingest.paced_note import EVERY_S, PacedNote


def test_one_line_in_ten_seconds_and_one_when_it_is_over():
    """However often it is tried; and the next trouble is said at once."""
    said, now = list[str](), [0.0]
    paced = PacedNote(said.append, lambda: now[0])
    for at in (0.0, 1.0, EVERY_S - 0.1, EVERY_S, EVERY_S + 1):
        now[0] = at
        paced(f"gone {at}")
    paced.over("back")
    paced("gone again")
    assert said == ["gone 0.0", f"gone {EVERY_S}", "back", "gone again"]


def test_nothing_is_over_that_was_not_said():
    """No trouble, no line."""
    said = list[str]()
    PacedNote(said.append).over("back")
    assert said == []
