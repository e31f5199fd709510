"""The mark of a point-in-time table: it is kept by Parquet, and differs where a feature would."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from data.errors import DataError
from data.feature_views.feature_mark import features_fingerprint, holds_features, is_marked, marked
from data.schema.use_case import UseCase, parse_use_case
from data.sources.atomic_output import write_table
from data.sources.parquet import open_source

_TEXT = """
name = "cards"
label = "y"
key = "id"
event_time = "t"
materialized = { every = "1d" }
[entity]
column = "card"
ttl = "30d"
[events.swipes]
entities = ["card"]
values = { amount = { decimals = 2 } }
record = true
[features]
amount = { type = "number", default = 4 }
hour = { type = "integer" }
score = { type = "number", source = "online" }
seen = { aggregate = "count", window = "10s" }
ratio = { expression = "amount / seen" }
"""


def _use_case(old: str = "", new: str = "") -> UseCase:
    assert old in _TEXT
    return parse_use_case(_TEXT.replace(old, new) if old else _TEXT, "x")


def test_a_marked_table_is_taken_as_it_is(tmp_path: Path):
    """Also from the file that it was written to."""
    table = pa.table({"seen": [1]}).replace_schema_metadata({b"maker": b"me"})
    write_table(marked(table, _use_case()), tmp_path / "t.parquet")
    schema = open_source(tmp_path / "t.parquet").schema
    assert holds_features(schema, _use_case(), "t.parquet")
    assert is_marked(schema)
    assert schema.metadata[b"maker"] == b"me"
    assert not holds_features(table.schema, _use_case(), "t.parquet")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('window = "10s"', 'window = "11s"'),
        ("amount / seen", "amount / (seen + 1)"),
        ("default = 4", "default = 5"),
        ("decimals = 2", "decimals = 3"),
        ('key = "id"', 'key = "id2"'),
        ('every = "1d"', 'every = "2d"'),
        ('ttl = "30d"', 'ttl = "31d"'),
    ],
)
def test_other_declarations_are_refused(old: str, new: str):
    """Over values that were made otherwise nothing can be computed, so the remedy is named."""
    table = marked(pa.table({"seen": [1]}), _use_case())
    with pytest.raises(DataError, match=r"t\.parquet: .* made by other declarations .*rayscore features"):
        holds_features(table.schema, _use_case(old, new), "t.parquet")


@pytest.mark.parametrize(
    ("old", "new"),
    [("record = true", "record = false"), ('hour = { type = "integer" }', ""), ('name = "cards"', 'name = "shops"')],
)
def test_what_decides_no_feature_changes_no_mark(old: str, new: str):
    """A table stays good while only the rest of the use case changes."""
    assert features_fingerprint(_use_case(old, new)) == features_fingerprint(_use_case())
