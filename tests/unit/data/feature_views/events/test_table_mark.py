"""The mark of a table that holds its windows: which tables have it, and for which use cases."""

from __future__ import annotations

import pyarrow as pa

from data.feature_views.events.table_mark import MARK, fingerprint, marked, with_mark
from data.feature_views.point_in_time import with_windows
from data.schema.use_case import parse_use_case
from data.sources.atomic_output import write_table
from data.sources.parquet import open_source
from tests.support.training.swipes import SWIPES, swipes_table, swipes_use_case


def _marked() -> pa.Table:
    use_case = swipes_use_case()
    table = with_windows(swipes_table(50), use_case).table
    return table.cast(with_mark(table.schema, use_case))


def test_a_marked_table_is_known_by_its_file(tmp_path):
    """The mark outlives writing and reading."""
    write_table(_marked(), tmp_path / "t.parquet")
    assert marked(open_source(tmp_path / "t.parquet").schema, swipes_use_case())


def test_a_mark_is_of_these_windows_alone():
    """Another window, delay or key is another mark; a default, a search or an expression is not."""
    table = _marked()
    other = swipes_use_case().model_copy(update={"key": "other"})
    assert not marked(table, other)
    for before, after, same in [
        ('window = "1d"', 'window = "2d"', False),
        ('delay = "1d"', 'delay = "2d"', False),
        ("decimals = 2", "decimals = 3", False),
        ("default = 0", "default = 1", True),
        ("amount / card_mean_3d", "card_mean_3d / amount", True),
        ("max_rounds = 10", "max_rounds = 20", True),
    ]:
        assert marked(table, parse_use_case(SWIPES.replace(before, after), "x")) is same, after


def test_a_mark_without_the_columns_is_none():
    """A marked table from which a window was dropped is not taken as it is."""
    assert not marked(_marked().drop_columns(["card_count_1d"]), swipes_use_case())
    assert not marked(swipes_table(5), swipes_use_case())


def test_one_unmarked_file_makes_a_folder_unmarked(tmp_path):
    """Files of one folder are one table: it holds windows when each of them does."""
    table = _marked()
    write_table(table, tmp_path / "a.parquet")
    write_table(table.replace_schema_metadata(None), tmp_path / "b.parquet")
    assert not marked(open_source(tmp_path).schema, swipes_use_case())
    write_table(table, tmp_path / "b.parquet")
    assert marked(open_source(tmp_path).schema, swipes_use_case())
    assert open_source(tmp_path).schema.metadata[MARK] == fingerprint(swipes_use_case()).encode()
