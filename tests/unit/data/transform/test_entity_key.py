"""The one spelling of an entity's key, in columns of any type and typed by a person."""

from __future__ import annotations

from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import DataError
from data.schema.entity import Entity
from data.transform.entity_key import LONGEST, entity_key, entity_keys, holds_keys

STRING, INTEGER = Entity(column="e"), Entity(column="e", type="integer")
SPACES = st.text(st.characters(codec="utf-8", categories=("Zs", "Zl", "Zp", "Cc")), max_size=3)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=8) | SPACES
NUMBER_LIKE = st.from_regex(r"\A[ +-]?0{0,2}[0-9]{1,21}(\.0|e3)?\s?\Z") | st.integers(-(2**70), 2**70).map(str)


def keys(values: list[object], entity: Entity, kind: pa.DataType | None = None) -> list[str | bool | None]:
    """The key of each value; None where it is blank, False where it is refused."""
    found = entity_keys(pa.chunked_array([pa.array(values, kind)]), entity)
    marks = zip(found.keys.to_pylist(), found.blank.tolist(), found.refused.tolist(), strict=True)
    assert all((key is not None) + blank + refused == 1 for key, blank, refused in marks)
    return [False if refused else key for key, refused in zip(found.keys.to_pylist(), found.refused, strict=True)]


def typed(text: str, entity: Entity) -> str | None:
    """The key that a person typed, None when it is refused."""
    try:
        return entity_key(text, entity)
    except DataError:
        return None


@given(TEXTS)
def test_string_key_is_its_text_exactly(text: str):
    """Text is a key as it is, spaces, case and zeros included, unless it is nothing but white space."""
    assert keys([text], STRING) == [text if text.strip() else None]
    assert typed(text, STRING) == (text if text.strip() else None)


@given(NUMBER_LIKE | TEXTS)
def test_integer_key_has_one_spelling(text: str):
    """Text is an integer key when the number that it stands for is printed so, and fits into 64 bits."""
    try:
        number = int(text)
        written = str(number) == text and -(2**63) <= number < 2**64
    except ValueError:
        written = False
    assert keys([text], INTEGER) == [text if written else False if text.strip() else None]
    assert typed(text, INTEGER) == (text if written else None)


@given(st.lists(st.none() | st.integers(1 - 2**53, 2**53 - 1), max_size=8))
def test_integer_key_is_the_same_from_every_type_of_column(numbers: list[int | None]):
    """Integers, whole floats, decimals and text of the same numbers give the same keys; nulls give none."""
    expected = [None if number is None else str(number) for number in numbers]
    assert keys(numbers, INTEGER, pa.int64()) == expected
    assert keys(numbers, INTEGER, pa.float64()) == expected
    assert keys(expected, INTEGER, pa.string()) == expected
    assert keys(expected, INTEGER, pa.large_string()) == expected
    assert keys(expected, INTEGER, pa.string_view()) == expected
    decimals = [None if number is None else Decimal(number) for number in numbers]
    assert keys(decimals, INTEGER, pa.decimal128(20, 2)) == expected
    assert keys(numbers, STRING, pa.int64()) == expected


def test_words_and_numbers_of_a_dictionary_are_keys():
    """A dictionary-encoded column gives the keys of its values."""
    words = pa.chunked_array([pa.array(["17", "017", None, "17"]).dictionary_encode()])
    assert entity_keys(words, INTEGER).keys.to_pylist() == ["17", None, None, "17"]
    assert entity_keys(words, STRING).keys.to_pylist() == ["17", "017", None, "17"]


def test_numbers_that_are_no_keys_are_refused():
    """A fraction, an infinity, or a float that may have lost digits is no integer key; NaN is none at all."""
    inexact = 2.0**53 + 2
    assert keys([17.5, float("inf"), inexact, float("nan"), -0.0], INTEGER) == [False, False, False, None, "0"]
    assert keys([Decimal("1.50"), Decimal("2.00")], INTEGER) == [False, "2"]
    assert keys([2**64 - 1], INTEGER, pa.uint64()) == ["18446744073709551615"]
    assert keys([Decimal(2**64)], INTEGER) == [False]


@pytest.mark.parametrize(("kind", "bits"), [(pa.float64(), 53), (pa.float32(), 24)])
def test_float_that_two_integers_share_is_no_key(kind: pa.DataType, bits: int):
    """From 2^53 on in a double, 2^24 in a float32, two integers are one number: neither of them is a key."""
    last = 2**bits - 1
    assert keys([float(last), float(last + 1)], INTEGER, kind) == [str(last), False]
    assert keys([float(-last), float(-last - 1)], INTEGER, kind) == [str(-last), False]


@pytest.mark.parametrize("entity", [STRING, INTEGER])
def test_column_of_nothing_but_nulls_has_no_key(entity: Entity):
    """A column whose type is null is blank in every row, for an entity of either type."""
    found = entity_keys(pa.chunked_array([pa.nulls(2)]), entity)
    assert (found.keys.to_pylist(), found.blank.tolist()) == ([None, None], [True, True])


_COLUMNS = (
    [pa.nulls(1), pa.array([True]), pa.array(["a"]).dictionary_encode(), pa.array([1.0]).dictionary_encode()]
    + [pa.array([1], kind) for kind in (pa.int8(), pa.uint64(), pa.float32(), pa.float64(), pa.date32())]
    + [pa.array(["1"], kind) for kind in (pa.string(), pa.large_string(), pa.string_view(), pa.binary())]
    + [pa.array([Decimal(1)]), pa.array([[1]]), pa.array([{"a": 1}]), pa.array([1], pa.timestamp("us"))]
)


@pytest.mark.parametrize("entity", [STRING, INTEGER])
@pytest.mark.parametrize("column", _COLUMNS, ids=lambda column: str(column.type))
def test_type_is_told_before_a_value_is_read(column: pa.Array, entity: Entity):
    """`holds_keys` says of every type whether `entity_keys` takes it."""
    try:
        entity_keys(pa.chunked_array([column]), entity)
        taken = True
    except DataError:
        taken = False
    assert holds_keys(column.type, entity.type) == taken


def test_text_that_no_request_can_send_is_refused():
    """A key longer than a request may carry, or bytes that are not UTF-8, are refused row by row."""
    assert keys(["ü" * LONGEST, "ü" * (LONGEST + 1)], STRING) == ["ü" * LONGEST, False]
    raw = pa.array([b"good", b"bad \xff", None, b" "], pa.binary())
    text = pa.StringArray.from_buffers(4, *raw.buffers()[1:], raw.buffers()[0])
    found = entity_keys(pa.chunked_array([text]), STRING)
    assert found.keys.to_pylist() == ["good", None, None, None]
    assert (found.refused.tolist(), found.blank.tolist()) == ([False, True, False, False], [False, False, True, True])


@pytest.mark.parametrize(
    ("values", "entity", "words"),
    [
        ([1.5], STRING, "column 'e' holds double, expected strings or integers"),
        ([True], INTEGER, "column 'e' holds bool, expected whole numbers"),
        ([b"x"], INTEGER, "column 'e' holds binary, expected whole numbers"),
    ],
)
def test_column_that_holds_no_keys_is_refused(values: list[object], entity: Entity, words: str):
    """A column of another type is refused as a whole, by name."""
    with pytest.raises(DataError, match=words):
        keys(values, entity)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("018", "e '018' is not how a key is written: ask for 18"),
        ("+5", "ask for 5"),
        (" 17", "ask for 17"),
        ("1e3", "ask for 1000"),
        ("18446744073709551616", "expected digits alone, such as 17 or -3, within 64 bits"),
        ("-1e19", "expected digits alone"),
        ("1.5", "expected digits alone, such as 17 or -3, within 64 bits"),
        ("inf", "expected digits alone"),
        ("seventeen", "expected digits alone"),
        (" ", "e ' ' is blank: name an entity"),
        ("\udcff", "is not UTF-8"),
    ],
)
def test_wrong_key_is_explained(text: str, words: str):
    """A key that is not written as one is refused in one line that says how to write it."""
    with pytest.raises(DataError) as refused:
        entity_key(text, INTEGER)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)
