"""Labels: what a table to learn from must hold of them."""

from __future__ import annotations

import math

import pyarrow as pa
import pytest

from data.errors import DataError
from tune.dataset.training_table import read_labels


@pytest.mark.parametrize(
    "column",
    [pa.array([0, 1, None, None]), pa.array([0, 1, math.nan, None]), pa.array([False, None, None, True])],
    ids=["null", "NaN", "boolean"],
)
def test_missing_labels_are_refused_with_their_count(column):
    """A label that is null or NaN is refused, with file, column and count."""
    with pytest.raises(DataError, match=r"t\.parquet: label column 'y' is missing in 2 rows; remove those rows"):
        read_labels(pa.table({"y": column}), "y", "t.parquet")


def test_label_that_is_no_label_is_shown():
    """What is neither 0 nor 1 is refused with the values found."""
    with pytest.raises(DataError, match="holds 0, 1, 7; expected 0 and 1"):
        read_labels(pa.table({"y": [0, 1, 7]}), "y", "t.parquet")


def test_labels_are_read_as_zero_and_one():
    """Integers, floats and truth values give the same labels."""
    for column in ([0, 1], [0.0, 1.0], [False, True]):
        assert read_labels(pa.table({"y": column}), "y", "t.parquet").tolist() == [0, 1]
