"""One transform: a column and a single value are encoded alike, for every type and every odd value."""

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import DataError, InvalidRow, SchemaMismatch
from data.schema.features.feature import Feature, FeatureType
from data.schema.features.feature_schema import FeatureSchema
from data.transform.encoding import FLOAT32_MAX, FeatureEncoder, Transform

_WORDS = ("Food", "Travel", "ü", "")
_INT64 = st.integers(-(2**63), 2**63 - 1)
_FLOATS = st.floats() | st.sampled_from([0.0, -0.0, math.inf, -math.inf, math.nan, 1e308, -1e39, 5e-324])
_KINDS = {
    FeatureType.NUMBER: (_FLOATS, pa.float64(), st.floats(allow_nan=False) | st.integers(-(2**70), 2**70)),
    FeatureType.INTEGER: (_INT64 | st.sampled_from([0, 2**53 + 1, 2**63 - 1]), pa.int64(), _INT64),
    FeatureType.BOOLEAN: (st.booleans(), pa.bool_(), st.booleans()),
    FeatureType.CATEGORY: (st.sampled_from((*_WORDS, "unseen", "food")), pa.string(), st.sampled_from(_WORDS)),
}


@st.composite
def _columns(draw):
    kind = draw(st.sampled_from(list(_KINDS)))
    values, arrow, default = _KINDS[kind]
    vocabulary = _WORDS if kind is FeatureType.CATEGORY else None
    feature = Feature(name="f", type=kind, default=draw(st.none() | default), vocabulary=vocabulary)
    return feature, draw(st.lists(st.none() | values, max_size=8)), arrow


@given(_columns())
def test_column_and_row_encode_alike(drawn):
    """The two ways of the transform give the same bits, nulls, NaN, infinities and unseen categories included."""
    feature, values, arrow = drawn
    transform = Transform(FeatureSchema(features=(feature,)))
    by_column = transform.matrix(pa.table({"f": pa.array(values, arrow, from_pandas=False)}))
    by_row = transform.rows([[value] for value in values])
    np.testing.assert_array_equal(by_column, by_row)
    assert by_column.dtype == by_row.dtype == np.float32
    assert not np.isinf(by_column).any()


@pytest.mark.parametrize("kind", [pa.string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())])
@pytest.mark.parametrize(
    ("declared", "code"),
    [({}, math.nan), ({"default": "b"}, 1.0), ({"empty": "value"}, math.nan), ({"vocabulary": ("a", "b", "")}, 2.0)],
    ids=["without default", "with default", "never seen", "a word"],
)
def test_empty_text_is_missing_unless_it_is_a_value(kind, declared, code):
    """'' is encoded as null is, and as a word where it is one; where it is one never seen it is not the default."""
    feature = Feature(name="f", type=FeatureType.CATEGORY, **{"vocabulary": ("a", "b"), **declared})
    transform = Transform(FeatureSchema(features=(feature,)))
    by_column = transform.matrix(pa.table({"f": pa.array(["", "a", None]).cast(kind)}))
    np.testing.assert_array_equal(by_column, transform.rows([[""], ["a"], [None]]))
    np.testing.assert_array_equal(by_column[0], [np.float32(code)])
    assert transform.encoders[0].unseen("") is (declared == {"empty": "value"})


@pytest.mark.parametrize(
    "declared",
    [
        {"type": FeatureType.NUMBER, "default": 1.0},
        {"type": FeatureType.BOOLEAN, "default": True},
        {"type": FeatureType.CATEGORY, "default": "b", "vocabulary": ("a", "b")},
    ],
)
def test_column_of_nulls_alone_is_missing_throughout(declared):
    """A column in which Arrow found no value, and so no type, is missing in every row, whatever the feature."""
    transform = Transform(FeatureSchema(features=(Feature(name="f", **declared),)))
    matrix = transform.matrix(pa.table({"f": pa.nulls(2)}))
    assert matrix.tolist() == [[1.0], [1.0]]


def test_empty_text_is_no_number():
    """'' for a number is a missing number: the default is taken."""
    encoder = FeatureEncoder(Feature(name="f", type=FeatureType.NUMBER, default=7.5))
    assert encoder.encode("") == encoder.encode(None) == encoder.encode(math.nan) == 7.5
    assert not encoder.unseen("")


def test_null_within_a_dictionary_takes_the_default():
    """A null that stands among the words of a dictionary-encoded column is as missing as one beside them."""
    feature = Feature(name="f", type=FeatureType.CATEGORY, vocabulary=("a", "b"), default="b")
    column = pa.DictionaryArray.from_arrays(pa.array([0, 1, None]), pa.array(["a", None]))
    assert Transform(FeatureSchema(features=(feature,))).matrix(pa.table({"f": column})).tolist() == [[0], [1], [1]]


@given(st.sampled_from([(FeatureType.NUMBER, 0.0), (FeatureType.INTEGER, 0), (FeatureType.BOOLEAN, False)]))
def test_zero_stays_zero(pair):
    """A zero is a value: it is not replaced by the default."""
    kind, zero = pair
    default = {FeatureType.NUMBER: 7.5, FeatureType.INTEGER: 7, FeatureType.BOOLEAN: True}[kind]
    transform = Transform(FeatureSchema(features=(Feature(name="f", type=kind, default=default),)))
    assert transform.rows([[zero]]).tolist() == [[0.0]]
    assert transform.matrix(pa.table({"f": [zero]})).tolist() == [[0.0]]
    assert transform.rows([[None]]).tolist() == [[float(default)]]


def test_first_category_is_zero_and_not_the_default():
    """The category with code 0 is told from an absent one, and an unseen one from both."""
    feature = Feature(name="f", type=FeatureType.CATEGORY, vocabulary=("a", "b"), default="b")
    transform = Transform(FeatureSchema(features=(feature,)))
    rows = transform.rows([["a"], [None], ["never seen"]])
    assert rows[:2].tolist() == [[0.0], [1.0]]
    assert np.isnan(rows[2, 0])


def test_infinities_become_the_largest_float():
    """Infinities and numbers beyond float32 are clipped, because XGBoost refuses infinities."""
    transform = Transform(FeatureSchema(features=(Feature(name="f", type=FeatureType.NUMBER),)))
    encoded = transform.rows([[math.inf], [-math.inf], [1e300]])
    assert encoded[:, 0].tolist() == [FLOAT32_MAX, -FLOAT32_MAX, FLOAT32_MAX]


@pytest.mark.parametrize(
    "arrow", [pa.int8(), pa.uint16(), pa.int64(), pa.float32(), pa.float64(), pa.decimal128(20, 1)]
)
def test_every_numeric_column_is_taken(arrow):
    """Numbers are taken from a column of any numeric type."""
    transform = Transform(FeatureSchema(features=(Feature(name="f", type=FeatureType.NUMBER),)))
    assert transform.matrix(pa.table({"f": pa.array([0, 3], pa.int64()).cast(arrow, safe=False)})).tolist() == [
        [0],
        [3],
    ]


@pytest.mark.parametrize("arrow", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_every_column_of_words_is_taken(arrow):
    """Categories are taken from strings however Arrow stores them."""
    feature = Feature(name="f", type=FeatureType.CATEGORY, vocabulary=("a", "b"))
    table = pa.table({"f": pa.array(["b", "a"]).cast(arrow)})
    assert Transform(FeatureSchema(features=(feature,))).matrix(table).tolist() == [[1], [0]]


@pytest.mark.parametrize(
    ("kind", "column", "words"),
    [
        (FeatureType.NUMBER, pa.array(["1"]), "column 'f' holds string, expected numbers"),
        (FeatureType.CATEGORY, pa.array([1.5]), "column 'f' holds double, expected strings or integers"),
    ],
)
def test_column_of_a_wrong_type_is_refused(kind, column, words):
    """A column that cannot hold the feature is refused with its name and type."""
    vocabulary = ("a",) if kind is FeatureType.CATEGORY else None
    encoder = FeatureEncoder(Feature(name="f", type=kind, vocabulary=vocabulary))
    with pytest.raises(DataError, match=words):
        encoder.column(pa.chunked_array([column]))


def test_missing_column_is_named():
    """A table without a feature's column is refused with the columns it has."""
    with pytest.raises(DataError, match="column 'f' is missing; the table has: g"):
        Transform(FeatureSchema(features=(Feature(name="f", type=FeatureType.NUMBER),))).matrix(pa.table({"g": [1]}))


def test_unfitted_schema_is_refused():
    """A category without vocabulary cannot be encoded."""
    with pytest.raises(SchemaMismatch, match="'f' has no vocabulary"):
        FeatureEncoder(Feature(name="f", type=FeatureType.CATEGORY))


@pytest.mark.parametrize(
    ("feature", "value", "words"),
    [
        (Feature(name="f", type=FeatureType.NUMBER), "1", "expected a number, got a string"),
        (Feature(name="f", type=FeatureType.NUMBER), True, "expected a number, got true"),
        (Feature(name="f", type=FeatureType.NUMBER), math.nan, "NaN and Infinity are not accepted"),
        (Feature(name="f", type=FeatureType.NUMBER), 1e39, "does not fit into 32-bit"),
        (Feature(name="f", type=FeatureType.INTEGER), 1.5, "expected an integer, got the number 1.5"),
        (Feature(name="f", type=FeatureType.INTEGER, min=0), -1, "below the smallest accepted value 0"),
        (Feature(name="f", type=FeatureType.INTEGER, max=9), 10, "above the largest accepted value 9"),
        (Feature(name="f", type=FeatureType.BOOLEAN), 1, "expected true or false, got the number 1"),
        (Feature(name="f", type=FeatureType.CATEGORY, vocabulary=("a",)), 3, "expected a string, got the number 3"),
        (Feature(name="f", type=FeatureType.NUMBER), [1], "expected a number, got an array"),
    ],
)
def test_client_value_is_refused_with_a_reason(feature, value, words):
    """A value sent by a client that does not fit is refused, and the error carries the field."""
    with pytest.raises(InvalidRow, match=words) as caught:
        FeatureEncoder(feature).accept(value)
    assert caught.value.field == "f"


@given(st.floats(-FLOAT32_MAX, FLOAT32_MAX))
def test_accepted_value_encodes_as_a_trusted_one(value):
    """What a client sends and what the table holds give the same input to the model."""
    encoder = FeatureEncoder(Feature(name="f", type=FeatureType.NUMBER))
    assert encoder.accept(value) == encoder.encode(value)
