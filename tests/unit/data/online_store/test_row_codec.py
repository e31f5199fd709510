"""The packed row of the online store."""

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import DamagedRow, DataError
from data.online_store.row_codec import OnlineRow, RowCodec
from data.schema.features.feature import Feature, FeatureType, Source
from data.schema.features.feature_schema import FeatureSchema

_VALUES = {
    FeatureType.NUMBER: st.floats(allow_nan=False),
    FeatureType.INTEGER: st.integers(-(2**63), 2**63 - 1),
    FeatureType.BOOLEAN: st.booleans(),
    FeatureType.CATEGORY: st.text(max_size=20),
}
_ARROW = {
    FeatureType.NUMBER: pa.float64(),
    FeatureType.INTEGER: pa.int64(),
    FeatureType.BOOLEAN: pa.bool_(),
    FeatureType.CATEGORY: pa.string(),
}
_TIMES = st.integers(-(2**63), 2**63 - 1)


def _schema(kinds, **declared):
    features = (Feature(name=f"f{i}", type=kind, source=Source.ONLINE, **declared) for i, kind in enumerate(kinds))
    return FeatureSchema(features=tuple(features))


@st.composite
def _tables(draw):
    kinds = draw(st.lists(st.sampled_from([*_VALUES]), min_size=1, max_size=18))
    row = st.tuples(*(st.none() | _VALUES[kind] for kind in kinds))
    return kinds, draw(st.lists(row, min_size=1, max_size=5)), draw(_TIMES)


@given(_tables())
def test_unpack_returns_what_was_packed(drawn):
    """A row of any values, absent ones included, comes back as it was, and '' as no value."""
    kinds, rows, event_us = drawn
    codec = RowCodec(_schema(kinds))
    for row in rows:
        expected = tuple(None if value == "" else value for value in row)
        assert codec.unpack(codec.pack(event_us, row)) == OnlineRow(event_us, expected)


@given(_tables())
def test_pack_table_equals_pack_byte_for_byte(drawn):
    """Packing a table at once gives the bytes of packing its rows one at a time."""
    kinds, rows, event_us = drawn
    codec = RowCodec(_schema(kinds))
    columns = {f"f{i}": pa.array([row[i] for row in rows], _ARROW[kind]) for i, kind in enumerate(kinds)}
    packed = codec.pack_table(pa.table(columns), np.full(len(rows), event_us))
    assert packed.to_pylist() == [codec.pack(event_us, row) for row in rows]


def test_nan_is_stored_as_absent():
    """A NaN is the same as no value, whichever way it was packed."""
    codec = RowCodec(_schema([FeatureType.NUMBER]))
    row = codec.unpack(codec.pack(1, [math.nan]))
    assert row is not None
    assert row.values == (None,)
    assert codec.pack_table(pa.table({"f0": [math.nan]}), np.array([1]))[0].as_py() == codec.pack(1, [None])


@given(st.lists(st.none() | st.sampled_from(["", " ", "a"]), min_size=1, max_size=4))
def test_empty_text_is_stored_where_it_is_a_value(words):
    """'' comes back where the category declares it as a value, else as no value, whichever way it was packed."""
    table = pa.table({"f0": pa.array(words, pa.string())})
    for declared, lost in (("value", False), ("missing", True)):
        codec = RowCodec(_schema([FeatureType.CATEGORY], empty=declared))
        packed = codec.pack_table(table, np.zeros(len(words), np.int64)).to_pylist()
        assert packed == [codec.pack(0, [word]) for word in words]
        expected = [None if lost and word == "" else word for word in words]
        assert [codec.unpack(payload) for payload in packed] == [OnlineRow(0, (word,)) for word in expected]


def test_empty_text_of_an_earlier_row_is_read_as_the_reader_means_it():
    """A row stored while '' was a word is of the same layout, and has no value for a reader to whom it is none."""
    written = RowCodec(_schema([FeatureType.CATEGORY], empty="value")).pack(0, [""])
    assert RowCodec(_schema([FeatureType.CATEGORY])).unpack(written) == OnlineRow(0, (None,))


@given(st.lists(st.sampled_from([*_VALUES]), min_size=1, max_size=5))
def test_another_layout_reads_as_no_row(kinds):
    """A payload of another view is None and never misread."""
    codec, other = RowCodec(_schema(kinds)), RowCodec(_schema([*kinds, FeatureType.NUMBER]))
    payload = codec.pack(0, [None] * len(kinds))
    assert other.unpack(payload) is None


@given(_tables(), st.data())
def test_payload_cut_anywhere_is_damaged(drawn, data):
    """A payload that lost its end is a DamagedRow, never a row with a shortened category and never another error."""
    kinds, rows, event_us = drawn
    codec = RowCodec(_schema(kinds))
    payload = codec.pack(event_us, rows[0])
    with pytest.raises(DamagedRow):
        codec.unpack(payload[: data.draw(st.integers(0, len(payload) - 1))])


def test_category_that_is_no_text_is_damaged():
    """Bytes that are not UTF-8 where a word belongs are a DamagedRow that names the feature."""
    codec = RowCodec(_schema([FeatureType.NUMBER, FeatureType.CATEGORY]))
    payload = codec.pack(1, [1.0, "word"]).replace(b"word", b"w\xffrd")
    with pytest.raises(DamagedRow, match="'f1' is not UTF-8"):
        codec.unpack(payload)


def test_value_of_another_type_is_refused():
    """Packing a string into a number names the features."""
    codec = RowCodec(_schema([FeatureType.NUMBER]))
    with pytest.raises(DataError, match="f0"):
        codec.pack(0, ["many"])


@pytest.mark.parametrize(
    ("kind", "values", "words"),
    [
        (FeatureType.INTEGER, [1.5], "column 'f0' holds 1.5, expected 64-bit whole numbers"),
        (FeatureType.BOOLEAN, [2], "column 'f0' holds 2.0, expected true and false"),
        (FeatureType.NUMBER, ["x"], "column 'f0' holds string, expected numbers"),
        (FeatureType.CATEGORY, ["x" * 70_000], "'f0': a category of 70000 bytes"),
    ],
)
def test_column_that_does_not_fit_is_refused(kind, values, words):
    """A column whose values its feature cannot hold is refused with its name and what was expected."""
    with pytest.raises(DataError, match=words):
        RowCodec(_schema([kind])).pack_table(pa.table({"f0": values}), np.zeros(1, np.int64))


def test_whole_floats_with_nulls_pack_as_integers():
    """Integers that a tool wrote as floats because some were missing are stored as integers."""
    codec = RowCodec(_schema([FeatureType.INTEGER]))
    packed = codec.pack_table(pa.table({"f0": pa.array([3.0, None])}), np.array([7, 7]))
    assert packed.to_pylist() == [codec.pack(7, [3]), codec.pack(7, [None])]
