"""Whole numbers that float32 merges: counted, the same however the table is cut."""

from __future__ import annotations

import itertools
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.schema.features.feature import Feature, FeatureType
from data.transform.encoding import FeatureEncoder
from data.transform.float32_identity import KEPT, column_numbers, distinct_numbers, merge_numbers

BASE = 4_000_000_001


def counted(values, kind=None):
    """The counts of a column of one chunk."""
    return column_numbers(pa.chunked_array([pa.array(values, kind)]), "x")


@pytest.mark.parametrize(
    ("values", "before", "after"),
    [
        ([BASE, BASE + 1, BASE + 2, BASE + 3, None, BASE], 4, 1),
        ([2**24 - 1, 2**24, 2**24 + 1, -(2**24) - 1, -(2**24)], 5, 3),
        ([0, 1, 2**24], 3, 3),
        ([2.0**53, 2.0**53 + 2, float("nan"), float("inf"), None, -0.0, 0.0], 3, 2),
        ([Decimal(10**19 + i) for i in range(4)], 4, 1),
        ([], 0, 0),
        ([None, None], 0, 0),
        ([True, False], 0, 0),
    ],
)
def test_different_numbers_are_counted_before_and_after(values, before, after):
    """Numbers beyond 2**24 that become one are counted, in integers, floats and decimals; missing values are none."""
    found = counted(values, pa.int64() if not any(values) else None)
    assert (found.before, found.after, found.merged) == (before, after, after < before)


def test_unsigned_integers_keep_their_identity():
    """The largest integers of 64 bit are told apart."""
    found = counted([2**64 - 1, 2**64 - 2, 2**63], pa.uint64())
    assert (found.before, found.after) == (3, 2)


def test_columns_with_fractions_are_amounts():
    """One value with a fraction, in whatever piece, makes a column an amount, whose rounding is no loss."""
    amounts = counted([BASE + 0.25, BASE + 0.5])
    assert not amounts.merged
    assert not amounts.merge(counted([float(BASE), BASE + 1.0])).merged


@pytest.mark.parametrize(
    ("values", "text", "remedy"),
    [
        (range(BASE, BASE + 4), "4 different values become 1 in", "declare it as a category"),
        ([float(v) for v in range(BASE, BASE + 4)], "4 different values", "write it as integers or text, and declare"),
        (range(BASE, BASE + 2000), "2,000 different values become 9 in", "leave it out if it is an identifier"),
        (range(BASE, BASE + 9000), "at least 4,096 different values become", "leave it out if it is an identifier"),
    ],
)
def test_loss_is_told_with_what_to_do(values, text, remedy):
    """The counts are exact as long as all numbers are kept; advice depends on how many there are, and their type."""
    found = counted(list(values))
    assert found.text.startswith(text)
    assert found.remedy(pa.float64() if isinstance(values[0], float) else pa.int64()).startswith(remedy)
    assert found.mostly_lost


def test_a_few_lost_of_many_are_not_most():
    """A column of small numbers with two that become one has lost few."""
    found = counted([*range(100), BASE, BASE + 1])
    assert found.merged
    assert not found.mostly_lost


def test_only_features_encoded_as_numbers_are_counted():
    """A category keeps its words, whatever their size."""
    table = pa.table({"code": [BASE, BASE + 1], "amount": [BASE, BASE + 1]})
    features = [Feature(name="code", type=FeatureType.CATEGORY), Feature(name="amount", type=FeatureType.INTEGER)]
    assert distinct_numbers(table, features).keys() == {"amount"}


numbers = st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(2**24 - 3, 2**24 + 9) | st.none(), max_size=60)


@given(numbers)
def test_counts_are_those_of_the_encoder(values):
    """For any integers: as many are left as the encoder of the model gives different codes."""
    column = pa.chunked_array([pa.array(values, pa.int64())])
    codes = FeatureEncoder(Feature(name="x", type=FeatureType.INTEGER)).column(column)
    found = column_numbers(column, "x")
    assert found.before == len({value for value in values if value is not None})
    assert found.after == len(np.unique(codes[~np.isnan(codes)]))


@settings(deadline=None)
@given(st.integers(1, 3 * KEPT), st.integers(1, 400), st.lists(st.integers(0, 3 * KEPT), max_size=4), st.randoms())
def test_counts_do_not_depend_on_how_a_column_is_cut(rows, step, ends, shuffled):
    """However a column is cut, and in whatever order the pieces come, the numbers kept of it are the same."""
    values = np.arange(2**24, 2**24 + rows * step, step)
    bounds = sorted({0, rows, *(end for end in ends if end < rows)})
    pieces = [{"x": counted(values[low:high])} for low, high in itertools.pairwise(bounds)]
    shuffled.shuffle(pieces)
    merged, whole = merge_numbers(pieces)["x"], counted(values)
    assert merged.identities.tolist() == whole.identities.tolist()
    assert (merged.text, merged.complete) == (whole.text, whole.complete)
