"""Labels: what a table to learn from must hold of them."""

from __future__ import annotations

import math

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.errors import DataError
from data.schema.use_case import parse_use_case
from tests.support.training.models import times_table, times_use_case
from tune.dataset.training_table import fingerprint, load_training_table, read_labels

LABELLED = parse_use_case('name = "t"\nlabel = "y"\n[features]\nx = { type = "number" }\n', "t.toml")


@pytest.mark.parametrize(
    "column",
    [pa.array([0, 1, None, None]), pa.array([0, 1, math.nan, None]), pa.array([False, None, None, True])],
    ids=["null", "NaN", "boolean"],
)
def test_missing_labels_are_refused_with_their_count(column):
    """A label that is null or NaN is refused, with file, column and count."""
    with pytest.raises(DataError, match=r"t\.parquet: label column 'y' is missing in 2 rows; remove those rows"):
        read_labels(pa.table({"y": column}), LABELLED, "t.parquet")


def test_label_that_is_no_label_is_shown():
    """What is neither 0 nor 1 is refused with the values found."""
    with pytest.raises(DataError, match="holds 0, 1, 7; expected 0 and 1"):
        read_labels(pa.table({"y": [0, 1, 7]}), LABELLED, "t.parquet")


def test_labels_are_read_as_zero_and_one():
    """Integers, floats and truth values give the same labels."""
    for column in ([0, 1], [0.0, 1.0], [False, True]):
        assert read_labels(pa.table({"y": column}), LABELLED, "t.parquet").tolist() == [0, 1]


def test_derived_features_are_columns_of_the_table_and_not_of_its_fingerprint(tmp_path):
    """Reports and slices find them; the fingerprint is that of what was read."""
    use_case = times_use_case()
    pq.write_table(times_table(50), tmp_path / "t.parquet")
    source = load_training_table(tmp_path / "t.parquet", use_case)
    assert source.table.column("hour").to_pylist()[:2] == [0, 0]
    assert source.table.column("opened_age").null_count == source.table.column("opened_weekday").null_count == 5
    assert source.fingerprint == fingerprint(source.table.select(use_case.columns))


def test_training_refuses_what_is_no_time(tmp_path):
    """File, column, count and the first such value are named: no row is learned from as if it had none."""
    table = times_table(50)
    texts = ["yesterday", *table.column("opened").to_pylist()[1:]]
    at = table.column_names.index("opened")
    pq.write_table(table.set_column(at, "opened", pa.array(texts)), tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"t\.parquet: column 'opened': 1 values are no times, the first 'yesterday'"):
        load_training_table(tmp_path / "t.parquet", times_use_case())
