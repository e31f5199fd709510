"""The rule by which text is a number: only if the number prints back the same."""

from __future__ import annotations

import math

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.sources.csv.number_text import first_lossy, keeps_digits, prints_back

KEPT = (
    *("0", "7", "-7", "12.50", ".5", "-.5", "-0.5", "0.0", "1.", "-0", "9007199254740992"),
    *("5.960464477539063e-08", "0.00000005960464477539063"),
    *("1e-07", "1E-07", "1e-7", "1e+22", "1.5E-3", "1.5e300", "-2.5e+10", "inf", "-Infinity"),
    *("0.1", "0.30000000000000004", "0.10000000000000001", "0.10000000000000000555", "1.7976931348623157e+308"),
)
LOST = (
    *("01220", "+5", "1E5", "2E7", "1e5", "1E22", "12E-4", "0x1F", " 5", "5 ", "00", "-01", "007.5", "1_000"),
    *("12345678901234567890", "18446744073709551616", "9007199254740993", "3.141592653589793238"),
    *("1e400", "1.5e400", "1.0e-400", "", "-", ".", "nan", "1,5", "\u0663", "1.2.3", "--5", "x"),
)


@pytest.mark.parametrize("text", KEPT)
def test_what_prints_back_is_a_number(text):
    """Zeros at the end of a fraction, a missing zero before the point and exponents as printed lose nothing."""
    assert prints_back(text)


@pytest.mark.parametrize("text", LOST)
def test_what_does_not_print_back_is_text(text):
    """Leading zeros, signs, codes with an E, and digits that a double does not hold would be lost."""
    assert not prints_back(text)


@pytest.mark.parametrize("text", ["01220", "+5", "1E5", " 5 ", "12345678901234567168"])
def test_spelling_aside_all_digits_are_kept(text):
    """Where a number is declared only its digits count, not how it is spelled."""
    assert keeps_digits(text)


# Binary fractions have texts that are half-way between two shorter ones.
_DOUBLES = st.floats(allow_nan=False) | st.builds(math.ldexp, st.integers(-(2**30), 2**30), st.integers(-80, 0))


@given(_DOUBLES, st.sampled_from([repr, "{:.17g}".format, "{:.20f}".format, "{:.18e}".format]))
def test_every_printed_double_prints_back(value, printed):
    """A double prints back however many digits it was printed with; the exponent needs a sign or a point to be one."""
    text = printed(value)
    assert prints_back(text) or abs(value) > 2**53 or "e" in text
    assert keeps_digits(text)
    if math.isfinite(value):
        assert float(text) == pytest.approx(value, rel=1e-15, abs=1e-19)


@given(st.lists(st.from_regex(r"-?[0-9]{0,20}(\.[0-9]{0,20})?([eE][+-]?[0-9]{1,3})?", fullmatch=True)))
def test_columns_are_judged_as_their_values_are(texts):
    """The check of whole columns finds the first value that the rule refuses."""
    texts = [text for text in texts if _casts(text)]
    column = pa.array(texts, pa.string())
    expected = next((row for row, text in enumerate(texts) if not prints_back(text)), None)
    assert first_lossy(column, column.cast(pa.float64()), prints_back) == expected


@given(st.lists(st.from_regex(r"-?[0-9]{1,20}", fullmatch=True)), st.integers(0, 3))
def test_integers_are_judged_by_their_one_spelling(texts, skipped):
    """Of integers whatever is not printed so is lost, in a slice of a column as well."""
    texts = [text for text in texts if abs(int(text)) < 2**63]
    column = pa.array(["08"] * skipped + texts, pa.string()).slice(skipped)
    expected = next((row for row, text in enumerate(texts) if str(int(text)) != text), None)
    assert first_lossy(column, column.cast(pa.int64()), prints_back) == expected


def test_nulls_are_passed_over():
    """A missing value is never the one that is lost."""
    column = pa.array([None, "1", None, "02"])
    assert first_lossy(column, column.cast(pa.int64()), prints_back) == 3
    assert first_lossy(column.slice(0, 3), column.slice(0, 3).cast(pa.int64()), prints_back) is None
    assert first_lossy(pa.array([None], pa.string()), pa.array([None], pa.int64()), prints_back) is None


def _casts(text: str) -> bool:
    try:
        pa.array([text]).cast(pa.float64())
    except pa.ArrowInvalid:
        return False
    return True
