"""`validate` says how often the online store would not have held a row's own values."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pyarrow as pa
import pytest

from data.cli.commands.validate import run
from data.feature_views.point_in_time import point_in_time
from data.schema.use_case import UseCase, parse_use_case
from data.sources.atomic_output import write_table
from data.validation.share import Share
from data.validation.stored_values import StoredValue, stored_values
from tests.support.training.models import card_table
from tests.support.training.stored_cards import stored_cards

_CASE = """
name = "cards"
label = "y"
event_time = "t"
materialized = { every = "10s", takes = "3s" }
entity = { column = "card" }
[features]
score = { type = "integer", source = "online", optional = true }
word = { type = "category", source = "either", vocabulary = ["a", "b"] }
"""


def _use_case() -> UseCase:
    return parse_use_case(_CASE, "cards.toml")


def _table() -> pa.Table:
    """Of one card: the store holds nothing at 5 and 10 s, the second row at 13 s, and the third at 33 and 34 s."""
    at = pa.array([second * 1_000_000 for second in (5, 10, 13, 33, 34)], pa.timestamp("us"))
    columns = {"score": [1, 2, 2, None, 3], "word": ["a", "b", "a", "a", "b"], "y": [0, 1, 0, 1, 0]}
    return pa.table({"card": ["c"] * 5, "t": at, **columns})


def _validate(folder: Path, table: pa.Table, report: Path | None = None) -> int:
    (folder / "u.toml").write_text(_CASE)
    write_table(table, folder / "t.parquet")
    options = {"use_case": str(folder / "u.toml"), "history": None, "events": []}
    return run(Namespace(path=folder / "t.parquet", report=report, **options))


def test_rows_that_would_have_got_another_value_or_none_are_counted():
    """Another value where the row has none too; no value where the row has one; and the same where both agree."""
    found = stored_values(_table(), _use_case())
    assert found.features == [
        StoredValue("score", Share(2, 5), Share(2, 5)),
        StoredValue("word", Share(2, 5), Share(2, 5)),
    ]


def test_earlier_rows_are_in_the_store_too():
    """The later rows with the earlier ones as history lose what they lose in the whole table."""
    whole, table = stored_values(_table(), _use_case()), _table()
    later = stored_values(table.slice(2), _use_case(), table.slice(0, 2))
    assert [feature.other.count for feature in later.features] == [feature.other.count for feature in whole.features]
    assert [feature.absent.count for feature in later.features] == [0, 0]


def test_a_schedule_that_is_always_in_time_loses_nothing():
    """Rows on whole minutes and a store that has each minute at once: every row gets its own values."""
    found = stored_values(card_table(300), stored_cards())
    assert {feature.other.count + feature.absent.count for feature in found.features} == {0}


@pytest.mark.parametrize("suffix", ["html", "md"])
def test_the_command_shows_it_and_so_does_the_report(tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str):
    """A line a feature on the terminal, a table in the report; it is no problem of the table."""
    target = tmp_path / f"r.{suffix}"
    assert _validate(tmp_path, _table(), target) == 0
    said = capsys.readouterr().out
    assert "materialized every 10s, there 3s later, share of rows that would have got another value than their" in said
    assert "  score: 40.00 % another value, 40.00 % none\n" in said
    text = target.read_text("utf-8")
    assert "Materialized every 10s, there 3s later" in text
    assert "40.00 %" in text


def test_a_table_whose_values_are_the_stored_ones_has_nothing_to_compare(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Of a table that `features` wrote the rows' own values are gone, and nothing is said of them."""
    assert _validate(tmp_path, point_in_time(_table(), _use_case()).table) in (0, 1)
    assert "materialized every" not in capsys.readouterr().out
