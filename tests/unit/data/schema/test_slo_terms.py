"""Objectives: one grammar, for whichever names a reader knows."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import ConfigError
from data.schema.duration import format_duration
from data.schema.slo_terms import ANY_PERCENTILE, ValueKind, parse_terms

TAKES = {
    ANY_PERCENTILE: (ValueKind.TIME, ValueKind.OFF),
    "max": (ValueKind.TIME,),
    "errors": (ValueKind.COUNT, ValueKind.PERCENT),
    "drift": (ValueKind.NUMBER, ValueKind.OFF),
    "decisions": (ValueKind.FACTOR, ValueKind.NUMBER),
}


def read(text: str) -> dict[str, tuple[ValueKind, float]]:
    """Kind and value by name."""
    return {term.name: (term.kind, term.value) for term in parse_terms(text, TAKES, "p99=5ms")}


def test_each_kind_of_value():
    """A time is in seconds, a percentage a share, a factor a number; spaces do not matter."""
    assert read(" p99.9 = 5ms, max=1m30s,errors=0.5%,drift=.1,decisions=3x") == {
        "p99.9": (ValueKind.TIME, 0.005),
        "max": (ValueKind.TIME, 90.0),
        "errors": (ValueKind.PERCENT, 0.005),
        "drift": (ValueKind.NUMBER, 0.1),
        "decisions": (ValueKind.FACTOR, 3.0),
    }
    assert read("errors=3,decisions=1.5") == {"errors": (ValueKind.COUNT, 3.0), "decisions": (ValueKind.NUMBER, 1.5)}
    kind, value = read("p50=off")["p50"]
    assert kind is ValueKind.OFF
    assert math.isnan(value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "'' is none of pN, max, errors, drift, decisions; write for example p99=5ms"),
        ("p99=5ms,", "'' is none of"),
        ("speed=1", "--slo speed=1: 'speed' is none of"),
        ("px=5ms", "'px' is none of"),
        ("p99", "p99 needs a time with its unit such as 800us or 5ms or 'off'"),
        ("p99=5", "p99 needs a time with its unit"),
        ("max=off", "max needs a time"),
        ("errors=0.5", "errors needs a whole number or a percentage such as 0.1%"),
        ("errors=-1", "errors needs"),
        ("drift=5%", "drift needs a number or 'off'"),
        ("drift=nan", "drift needs a number"),
        ("decisions=x", "decisions needs a factor"),
        ("p99=5ms,errors=1,p99=6ms", "p99 is given twice"),
    ],
)
def test_wrong_term_is_refused_with_what_was_expected(text: str, says: str):
    """The error names the term, the name or the kinds of value that it takes, and an example."""
    with pytest.raises(ConfigError, match=re.escape(says)):
        read(text)


@given(st.integers(0, 10**12), st.integers(0, 10**6), st.floats(0, 1e6))
def test_what_is_written_is_read_as_it_was(microseconds: int, count: int, number: float):
    """Times, counts and numbers come back from their text as the same numbers."""
    found = read(f"p99={format_duration(microseconds / 1e6)},errors={count},drift={number!r}")
    assert [value for _, value in found.values()] == [microseconds / 1e6, count, number]
