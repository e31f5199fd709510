"""Validation of events: what no window would count is a problem with column, reason and rows, and nothing else is."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from data.cli.commands.validate import run
from data.distributed.pieces import each_block_here, parquet_pieces
from data.schema.use_case import UseCase, parse_use_case
from data.sources.atomic_output import write_table
from data.sources.parquet import open_source
from data.validation.column_types import check_source
from data.validation.event_checks import beside_event_problems
from data.validation.validation import Validation, checker, merge
from tests.support.training.swipes import SWIPES, swipes_table, swipes_use_case

NOW_US = 1_800_000_000_000_000
BESIDE = SWIPES.replace('delay = "1d"', 'key = "report"\ntime = "when"\nknown_at = "told"')


def validated(folder: Path, table: pa.Table, use_case: UseCase) -> Validation:
    """The findings of a table."""
    write_table(table, folder / "t.parquet")
    source = open_source(folder / "t.parquet")
    check_source(source, use_case)
    parts = list(each_block_here(parquet_pieces(source, use_case.columns), checker(use_case, NOW_US)))
    return merge(source, use_case, parts)


def changed(column: str, rows: list[int], value: object) -> pa.Table:
    """The swipes with another value in some rows of a column."""
    table = swipes_table(100)
    values = table.column(column).to_pylist()
    for row in rows:
        values[row] = value
    return table.set_column(table.column_names.index(column), column, pa.array(values))


def _flat(text: str) -> str:
    return " ".join(text.split())


def test_good_events_are_clean(tmp_path: Path):
    """Windows and expressions are no columns that a table must have."""
    assert validated(tmp_path, swipes_table(100), swipes_use_case()).clean


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("amount", 1e15, "out of range for 2 decimal places"),
        ("amount", float("inf"), "out of range for 2 decimal places"),
        ("card", "x" * 2000, "not written as a key of type 'string'"),
        ("swipe_id", None, "missing"),
        ("at", None, "missing"),
    ],
)
def test_rows_that_no_window_counts_are_found(tmp_path: Path, column: str, value: object, reason: str):
    """A value beyond the fixed point, a key that is none and a row without key or time are told with their rows."""
    found = validated(tmp_path, changed(column, [3, 50], value), swipes_use_case()).hits
    assert found[(column, reason)].rows.tolist() == [3, 50]


def test_a_row_without_any_entity_is_found_and_one_without_some_is_not(tmp_path: Path):
    """A missing terminal leaves the card's windows; without both the row is in no window."""
    use_case = swipes_use_case()
    assert ("card", "names no entity of events.swipes") not in validated(
        tmp_path, changed("card", [3], ""), use_case
    ).hits
    blank = changed("card", [3, 4], "")
    terminals = [None if row == 3 else value for row, value in enumerate(blank.column("terminal").to_pylist())]
    both = blank.set_column(blank.column_names.index("terminal"), "terminal", pa.array(terminals))
    assert validated(tmp_path, both, use_case).hits[("card", "names no entity of events.swipes")].rows.tolist() == [3]


def test_events_beside_the_table_are_checked_with_counts_and_rows():
    """Keys, times, values and another content of the same key."""
    source = parse_use_case(BESIDE, "x").events["reports"]
    table = pa.table(
        {
            "report": ["a", "b", None, "d", "a", "b"],
            "when": pa.array([1, 2, 3, NOW_US * 2, 1, 2], pa.timestamp("us")),
            "told": pa.array([1, 2, 3, NOW_US * 2, 1, 2], pa.timestamp("us")),
            "terminal": [1, 2, 3, None, 1, 2],
            "fraud": [1.0, 0.0, 1e300, 0.0, 1.0, 1.0],
        }
    )
    assert list(beside_event_problems(table, "reports", source, NOW_US)) == [
        "events.reports: report: missing: 1 rows, the first 2",
        "events.reports: when: more than a day in the future: 1 rows, the first 3",
        "events.reports: fraud: out of range for 6 decimal places: 1 rows, the first 2",
        "events.reports: terminal: names no entity of events.reports: 1 rows, the first 3",
        "events.reports: report: with another content of the same key: 1 rows; "
        "write each event once, or declare known_at",
    ]


def test_the_command_checks_the_events_that_it_is_given(tmp_path: Path, capsys):
    """A problem of a table of events is one of the command; a source that is not named is said not to be checked."""
    (tmp_path / "u.toml").write_text(BESIDE)
    write_table(swipes_table(100), tmp_path / "t.parquet")
    at = pa.array(np.arange(4) * 1_000_000, pa.timestamp("us"))
    reports = {"report": [1, 2, 3, None], "when": at, "told": at, "terminal": [1] * 4, "fraud": [0] * 4}
    write_table(pa.table(reports), tmp_path / "r.parquet")
    options = {"path": tmp_path / "t.parquet", "use_case": str(tmp_path / "u.toml"), "report": None, "history": None}
    assert run(Namespace(**options, events=[])) == 0
    assert "events.reports is not checked: name it by --events reports=PATH" in capsys.readouterr().err
    assert run(Namespace(**options, events=[f"reports={tmp_path / 'r.parquet'}"])) == 1
    assert "r.parquet: events.reports: report: missing: 1 rows, the first 3" in capsys.readouterr().out.replace(
        "\n", " "
    )
