"""What validation says of the lists of a ranking."""

from __future__ import annotations

import pyarrow as pa

from data.schema.use_case import parse_use_case
from data.sources.atomic_output import write_table
from data.sources.parquet import open_source
from data.validation.list_summary import ListSummary, list_summary
from data.validation.row_checks import row_checks

USE_CASE = parse_use_case(
    'name = "t"\nlabel = "y"\ntask = { kind = "ranking", group = "g" }\n[features]\nx = { type = "number" }', "t.toml"
)


def table(groups: list[object], grades: list[object]) -> pa.Table:
    """Rows of some lists."""
    return pa.table({"g": groups, "x": [0.0] * len(groups), "y": grades})


def test_lists_that_teach_nothing_are_told():
    """Lists of one row, and those without a grade above 0, are counted; a list may lie in several blocks."""
    blocks = [table(["a", "a", "b"], [0, 0, 1]), table(["a", "c", "d"], [1, 0, 0]), table(["d", None], [0, 1])]
    found = [summary for block in blocks if (summary := list_summary(block, USE_CASE))]
    assert list(ListSummary.joined(found).notes("g")) == [
        "g: 2 of 4 lists have one row only, and teach nothing of the order",
        "g: 2 of 4 lists have no row with a grade above 0, and teach nothing",
    ]


def test_good_lists_need_no_note():
    """Nothing is said of lists that have two rows and a relevant one."""
    summary = list_summary(table([1, 1, 2, 2], [0, 1, 3, 0]), USE_CASE)
    assert summary is not None
    assert list(summary.notes("g")) == []


def test_rows_without_a_list_or_with_no_grade_are_bad():
    """Each is found with its reason."""
    rows = table(["a", None, ""], [0.5, 32, 2])
    found = {(check.column, check.reason): check.mask.tolist() for check in row_checks(rows, USE_CASE, None, 0)}
    assert found["g", "missing"] == [False, True, True]
    assert found["y", USE_CASE.task.fault] == [True, True, False]


def test_the_group_is_read(tmp_path):
    """The columns of a use case have the group, which is no feature."""
    write_table(table(["a"], [1]), tmp_path / "t.parquet")
    open_source(tmp_path / "t.parquet").require(USE_CASE.columns)
    assert "g" in USE_CASE.columns
    assert "g" not in USE_CASE.schema_.names
