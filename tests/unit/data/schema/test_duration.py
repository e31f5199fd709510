"""Durations: one grammar, read and written."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import ConfigError
from data.schema.duration import format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10m", 600),
        ("1h30m", 5400),
        ("1h 30 m", 5400),
        ("90s", 90),
        ("30d", 30 * 86_400),
        ("5ms", 0.005),
        ("800us", 0.0008),
        ("1.5s", 1.5),
        ("0s", 0),
    ],
)
def test_a_duration_is_numbers_with_units(text: str, seconds: float):
    """Parts add up, a number may have a fraction, and a space between parts is no matter."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", " ", "10", "m", "-5s", "10m5", "5 minutes", "12 hours", "1e3s", ".5s", "5s,", "1m-2s", "9" * 400 + "d"]
)
def test_what_is_no_duration_is_refused(text: str):
    """The error names the text and shows how durations are written."""
    with pytest.raises(ConfigError, match=re.escape(f"'{text}' is not a duration such as '30d'")):
        parse_duration(text)


@given(st.integers(0, 10**16))
def test_what_is_written_is_read_as_it_was(microseconds: int):
    """Every duration of whole microseconds, up to 300 years, comes back from its text as the same number."""
    seconds = microseconds / 1_000_000
    assert parse_duration(format_duration(seconds)) == seconds


@given(st.lists(st.tuples(st.integers(0, 10**6), st.sampled_from(["us", "ms", "s", "m", "h", "d"])), min_size=1))
def test_writing_again_changes_nothing(parts: list[tuple[int, str]]):
    """Any spelling of a duration is written in one way, and that way is kept."""
    text = format_duration(parse_duration("".join(f"{count}{unit}" for count, unit in parts)))
    assert format_duration(parse_duration(text)) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (4.2, "4s200ms"), (312_345, "3d14h"), (86_430, "1d"), (-90, "-1m30s"), (0.0000001, "0s")],
)
def test_people_are_shown_two_units(seconds: float, text: str):
    """What is shown may be cut after its two largest units; a moment ahead has a minus sign."""
    assert format_duration(seconds, units=2) == text
