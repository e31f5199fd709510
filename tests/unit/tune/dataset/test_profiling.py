"""Profiling: what the train rows hold, as the model sees it."""

from __future__ import annotations

import math

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.schema.features.feature import Feature, FeatureType
from data.schema.features.feature_schema import FeatureSchema
from data.schema.features.training_profile import merge_profiles
from data.transform.encoding import FLOAT32_MAX
from tune.dataset.profiling import profile_rows

SCHEMA = FeatureSchema(
    features=(
        Feature(name="amount", type=FeatureType.NUMBER, default=7.0),
        Feature(name="shop", type=FeatureType.CATEGORY, vocabulary=("food", "fuel", "toys"), default="toys"),
        Feature(name="note", type=FeatureType.CATEGORY, vocabulary=("", "a"), empty="value"),
    )
)


def rows(amounts, shops=None, notes=None):
    """Rows of the schema; shops and notes are all missing unless they are given."""
    nothing = [None] * len(amounts)
    columns = (amounts, pa.float64()), (shops or nothing, pa.string()), (notes or nothing, pa.string())
    arrays = [pa.array(values, kind) for values, kind in columns]
    return pa.table(dict(zip(SCHEMA.names, arrays, strict=True)))


def test_missing_values_are_counted_and_stretch_no_range():
    """Null, NaN and '' are missing, and a default that stands in for them is no value of the rows."""
    found = profile_rows(rows([1.5, None, math.nan, 3.0], ["food", "", None, "gold"], ["", None, "a", "a"]), SCHEMA)
    assert found.rows == 4
    amount, shop, note = found.features.values()
    assert (amount.missing, amount.low, amount.high) == (2, 1.5, 3.0)
    assert (shop.missing, shop.unknown, shop.unused) == (2, 1, ("fuel", "toys"))
    assert (note.missing, note.unknown, note.unused) == (1, 0, ())


def test_range_is_that_of_the_encoded_numbers():
    """Infinities count as the largest number of 32 bits, as they do in training."""
    amount = profile_rows(rows([-math.inf, 0.1, math.inf]), SCHEMA).features["amount"]
    assert (amount.low, amount.high) == (-FLOAT32_MAX, FLOAT32_MAX)


def test_no_rows_have_a_profile():
    """A block without train rows holds nothing, and has used no word."""
    found = profile_rows(rows([]), SCHEMA)
    assert found.rows == 0
    assert found.features["amount"].low is None
    assert found.features["shop"].unused == ("food", "fuel", "toys")


@pytest.mark.parametrize("cut", [0, 1, 3])
@given(data=st.data())
def test_profiles_of_parts_merge_into_that_of_the_whole(cut, data):
    """However a table is cut, its profile is the same."""
    numbers = st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True))
    words = st.sampled_from([None, "", "a", "food", "fuel", "gold"])
    size = data.draw(st.integers(3, 8))
    drawn = [data.draw(st.lists(values, min_size=size, max_size=size)) for values in (numbers, words, words)]
    table = rows(*drawn)
    parts = [table.slice(0, cut), table.slice(cut)]
    assert merge_profiles(profile_rows(part, SCHEMA) for part in parts) == profile_rows(table, SCHEMA)
