"""Whole columns of decimal fractions: what is proven to keep its digits does so value by value."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.sources.csv.decimal_digits import proven_to_keep
from data.sources.csv.number_text import first_lossy, prints_back

_ENOUGH = 40
"""So often a text is repeated that its layout is worth the steps."""


def _proven(text: str, skipped: int = 0) -> bool:
    column = pa.array(["-.5"] * skipped + [text] * _ENOUGH).slice(skipped)
    marks = proven_to_keep(column, column.cast(pa.float64()))
    assert marks.all() == marks.any()
    return bool(marks.all())


@given(
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([repr, "{:.17g}".format, "{:.18e}".format, "{:.12f}".format, "{:.2E}".format]),
    st.integers(0, 3),
)
def test_what_is_proven_prints_back(value, printed, skipped):
    """However a double is printed, a proof agrees with the rule for single values, in a slice of a column as well."""
    text = printed(value)
    assert not _proven(text, skipped) or prints_back(text)


@given(st.from_regex(r"-?[0-9]{0,20}\.[0-9]{1,20}(e[+-]?[0-9]{1,2})?", fullmatch=True))
def test_no_digit_is_proven_that_is_lost(text):
    """Digits that no double was printed with are proven only if it keeps them."""
    assert not _proven(text) or prints_back(text)


@pytest.mark.parametrize(
    "text", ["0.30000000000000004", "-1.234567890123456806e+02", "1.000000000000000000e+00", "0.000000000000000000e+00"]
)
def test_long_prints_are_proven(text):
    """Seventeen to nineteen digits, as programs print them, need no look at each value."""
    assert _proven(text)


@pytest.mark.parametrize("text", ["0.1234567890123456789", "3.141592653589793238", "007.5", "9.9996e400", "12", "nan"])
def test_lost_digits_are_not_proven(text):
    """Digits that a double does not hold, zeros that lead, infinity and what has no point are left to the rule."""
    assert not _proven(text)


def test_one_lost_digit_among_many_is_found():
    """In a column of proven values the one whose last digit is another is the one that is refused."""
    texts = [f"{value:.18e}" for value in np.random.default_rng(1).normal(size=500)]
    texts[321] = "1.234567890123456789e+00"
    column = pa.array(texts)
    assert first_lossy(column, column.cast(pa.float64()), prints_back) == 321
