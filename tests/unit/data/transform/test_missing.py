"""What counts as missing: one answer for a value and for a column, whatever Arrow type holds it."""

import math

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.transform.missing import blank_as_null, blank_mask, is_blank, is_missing, missing_as_null, missing_mask

_SPACES = ("", " ", "\t\n", "\xa0", "\u2003", "\x1c", "\u200b", "0", "nan", "null")
_TEXTS = st.lists(st.none() | st.sampled_from(_SPACES) | st.text(max_size=3), max_size=8)
_NUMBERS = st.lists(st.none() | st.sampled_from([0.0, -0.0, math.nan, math.inf]) | st.floats(), max_size=8)
_TEXT_TYPES = (
    pa.string(),
    pa.large_string(),
    pa.string_view(),
    pa.dictionary(pa.int32(), pa.string()),
    pa.dictionary(pa.int8(), pa.large_string()),
)


def _column(values, kind):
    plain = pa.array(values, kind.value_type if pa.types.is_dictionary(kind) else kind)
    return pa.chunked_array([plain.dictionary_encode().cast(kind) if pa.types.is_dictionary(kind) else plain])


@given(_TEXTS, st.sampled_from(_TEXT_TYPES), st.booleans())
def test_text_is_missing_in_a_column_as_it_is_alone(values, kind, empty_is_value):
    """Null and '' are missing, white space and words are not, in every type of text; '' is not where it is a value."""
    column = _column(values, kind)
    expected = [is_missing(value, empty_is_value) for value in values]
    assert missing_mask(column, empty_is_value).tolist() == expected
    nulled = missing_as_null(column, empty_is_value).to_pylist()
    assert nulled == [None if lost else value for value, lost in zip(values, expected, strict=True)]
    assert expected == [value is None or (value == "" and not empty_is_value) for value in values]


@given(_TEXTS, st.sampled_from(_TEXT_TYPES))
def test_key_is_blank_in_a_column_as_it_is_alone(values, kind):
    """A key is blank when it is null, '' or white space of any alphabet, in every type of text."""
    column = _column(values, kind)
    expected = [is_blank(value) for value in values]
    assert blank_mask(column).tolist() == expected
    kept = [None if lost else value for value, lost in zip(values, expected, strict=True)]
    assert blank_as_null(column).to_pylist() == kept
    assert expected == [value is None or not value.strip() for value in values]


@given(_NUMBERS)
def test_number_is_missing_in_a_column_as_it_is_alone(values):
    """Null and NaN are missing, zeros and infinities are not."""
    column = pa.chunked_array([pa.array(values, pa.float64(), from_pandas=False)])
    assert missing_mask(column).tolist() == [is_missing(value) for value in values]
    assert blank_mask(column).tolist() == [is_blank(value) for value in values]


@pytest.mark.parametrize("value", [0, 0.0, False, " ", "0", [], {}, math.inf])
def test_what_is_merely_false_or_odd_is_not_missing(value):
    """A zero, false, a space and an empty array are values."""
    assert not is_missing(value)


def test_null_in_a_dictionary_is_missing():
    """A dictionary-encoded column may hold its null among the words: it is as missing as one beside them."""
    column = pa.chunked_array([pa.DictionaryArray.from_arrays(pa.array([0, 1, None]), pa.array(["a", None]))])
    assert missing_mask(column).tolist() == [False, True, True]


@pytest.mark.parametrize(
    "column",
    [pa.array([1, None]), pa.array([True, None]), pa.array([None, None]).slice(1), pa.array([b"", None])],
    ids=["integers", "booleans", "nulls", "bytes"],
)
def test_column_of_any_other_type_is_missing_where_it_is_null(column):
    """In types that hold neither text nor floats only null is missing."""
    chunked = pa.chunked_array([column])
    assert missing_mask(chunked).tolist() == blank_mask(chunked).tolist() == column.is_null().to_pylist()
