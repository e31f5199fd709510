"""What `rayscore materialize` prints of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from data.cli.commands.materialize import report
from data.online_store.entity_tally import EntityTotals
from data.online_store.left_out import LeftOut, LeftOutRows, Reason
from data.online_store.materialization import Materialized
from tests.support.training.stored_cards import stored_cards


def test_every_row_is_accounted_for(capsys: pytest.CaptureFixture[str]):
    """The outcome has entities, superseded rows, and those left out with the names of the first."""
    left_out = LeftOut()
    left_out.add(Reason.WITHOUT_ENTITY, LeftOutRows(4, ("a.parquet row 3", "a.parquet row 4", "b.parquet row 0")))
    left_out.add(Reason.EXPIRED, LeftOutRows(1, ("b.parquet row 9",)))
    done = Materialized(1012, EntityTotals(5, 1, 1, superseded=3, conflicting=2), 1000, left_out)
    report(Path("t"), done, stored_cards(), "sqlite")
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [
        "t: 1,012 rows read, 7 entities: 5 written to sqlite, 1 unchanged, 1 older than stored",
        "superseded: 1,000 rows by a later row of their entity, 2 of them at the same event time with other values",
    ]
    assert printed.err.splitlines() == [
        "left out: 4 rows without entity: 'user_id' is blank (a.parquet row 3, a.parquet row 4, b.parquet row 0, ...)",
        "left out: 1 row older than the entity's ttl of 365d (b.parquet row 9)",
    ]


def test_quiet_where_there_is_nothing_to_say(capsys: pytest.CaptureFixture[str]):
    """A table with one good row an entity takes one line."""
    report(Path("t"), Materialized(2, EntityTotals(2)), stored_cards(), "cassandra")
    printed = capsys.readouterr()
    assert printed.out == "t: 2 rows read, 2 entities: 2 written to cassandra, 0 unchanged, 0 older than stored\n"
    assert printed.err == ""


def test_one_is_singular(capsys: pytest.CaptureFixture[str]):
    """One row, one entity: each count has its noun's form."""
    left_out = LeftOut()
    left_out.add(Reason.WITHOUT_TIME, LeftOutRows(1, ("t row 1",)))
    report(Path("t"), Materialized(1, EntityTotals(1), 1, left_out), stored_cards(), "sqlite")
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [
        "t: 1 row read, 1 entity: 1 written to sqlite, 0 unchanged, 0 older than stored",
        "superseded: 1 row by a later row of their entity",
    ]
    assert printed.err == "left out: 1 row without event time (t row 1)\n"
