"""The digest of a table's content."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from tests.support.training.models import card_table
from tune.dataset.fingerprint import column_hashes, content_sum
from tune.dataset.training_table import fingerprint


def mixed_table():
    """A column of every kind that a table may bring, each with a null."""
    return pa.table(
        {
            "i": [1, None, 3],
            "f": [0.5, None, float("nan")],
            "b": [True, None, False],
            "s": ["a", None, "b"],
            "t": pa.array([datetime(2024, 1, 1), None, datetime(2024, 1, 2)], pa.timestamp("us")),
            "d": pa.array([1, None, 2], pa.date32()),
            "u": pa.array([2**63, None, 1], pa.uint64()),
            "m": pa.array([Decimal("1.5"), None, Decimal("2.5")]),
            "c": pa.array(["x", None, "y"]).dictionary_encode(),
            "l": [[1, 2], None, []],
        }
    )


@pytest.mark.parametrize("cuts", [(1000,), (1, 999), (400, 3, 597)])
def test_pieces_add_up_to_the_whole(cuts):
    """However a table is cut, the sums of its pieces come to the sum of the whole."""
    table = card_table(1000)
    ends = np.cumsum(cuts)
    parts = [content_sum(table.slice(end - size, size), end - size) for end, size in zip(ends, cuts, strict=True)]
    assert sum(parts) % 2**64 == content_sum(table)


def test_chunks_and_dictionaries_do_not_matter_to_the_content():
    """The same values in other chunks have the same fingerprint."""
    table = card_table(200)
    again = pa.concat_tables([table.slice(0, 50), table.slice(50)])
    assert fingerprint(again) == fingerprint(table)
    words = pa.chunked_array([["b", "a"], ["a", None]])
    assert column_hashes(words).tolist() == column_hashes(words.dictionary_encode()).tolist()


@pytest.mark.parametrize("name", mixed_table().column_names)
def test_every_value_counts(name):
    """A changed value, a null that moved and two rows that changed places are another table, whatever the type."""
    table = mixed_table()
    at = table.column_names.index(name)
    for order in ([0, 1, 0], [0, 2, 1], [2, 1, 0]):
        changed = table.set_column(at, name, table.column(name).take(order))
        assert fingerprint(changed) != fingerprint(table)


def test_names_types_and_order_of_columns_count():
    """The same values under another name, as another type or in other columns are another table."""
    table = pa.table({"a": [1, 2], "b": [1, 3]})
    others = [
        table.rename_columns(["a", "c"]),
        table.set_column(0, "a", table["a"].cast(pa.int32())),
        pa.table({"a": table["b"], "b": table["a"]}),
        table.slice(0, 1),
    ]
    assert len({fingerprint(each) for each in [table, *others]}) == 5
