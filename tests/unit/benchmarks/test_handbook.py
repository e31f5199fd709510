"""The features of the fraud detection handbook: by its own pandas code, by declared windows, and how they differ."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from benchmarks.workloads.handbook import USE_CASE, Difference, PublishedWeek
from data.errors import DataError
from data.feature_views.point_in_time import with_windows
from data.schema.use_case import load_use_case

_DAYS = (1, 7, 30)
_DELAY_DAYS = 7


def test_windows_are_those_of_the_handbook():
    """Counts and risks equal its own to the bit, means to 1e-9, with times of the same second among the rows."""
    week = _published(600)
    found = with_windows(week.table, week.use_case).table
    assert [(each.rows, each.differing) for each in week.differences(found)] == [(600, 0)] * 12


def test_another_value_and_an_absent_row_are_told():
    """A count that is off by one is a difference of its feature alone; a row that nobody answered is an error."""
    week = _published(60)
    found = with_windows(week.table, week.use_case).table
    name = "CUSTOMER_ID_NB_TX_7DAY_WINDOW"
    counts = found.column(name).to_pylist()
    wrong = found.set_column(found.column_names.index(name), name, pa.array([counts[0] + 1, *counts[1:]]))
    assert [each for each in week.differences(wrong) if each.differing] == [Difference(name, 60, 1, 1.0)]
    with pytest.raises(DataError, match="1 published rows were not found"):
        week.differences(found.slice(1))


def _published(count: int) -> PublishedWeek:
    """Rows with the windows that the handbook's code computes."""
    frame = _transactions(count)
    customers = pd.concat(_customer_features(rows) for _, rows in frame.groupby("CUSTOMER_ID"))
    terminals = pd.concat(_terminal_features(rows) for _, rows in frame.groupby("TERMINAL_ID"))
    published = frame.join(customers).join(terminals)
    return PublishedWeek(pa.Table.from_pandas(published, preserve_index=False), load_use_case(USE_CASE))


def _transactions(count: int) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    # Half of the times are whole days, so that windows end at events and several events share a second.
    days, seconds = rng.integers(0, 60, count), rng.integers(0, 86_400, count)
    times = np.sort(days * 86_400 + np.where(rng.random(count) < 0.5, seconds, 0))
    return pd.DataFrame(
        {
            "TRANSACTION_ID": np.arange(count),
            "TX_DATETIME": pd.Timestamp("2018-04-01") + pd.to_timedelta(times, unit="s"),
            "CUSTOMER_ID": rng.integers(0, 5, count),
            "TERMINAL_ID": rng.integers(0, 4, count),
            "TX_AMOUNT": rng.integers(1, 50_000, count) / 100,
            "TX_FRAUD": (rng.random(count) < 0.3).astype(np.int64),
        }
    )


def _customer_features(rows: pd.DataFrame) -> pd.DataFrame:
    amounts = rows.set_index("TX_DATETIME")["TX_AMOUNT"]
    found = {}
    for days in _DAYS:
        rolling = amounts.rolling(pd.Timedelta(days=days))
        count = rolling.count()
        found[f"CUSTOMER_ID_NB_TX_{days}DAY_WINDOW"] = count.to_numpy()
        found[f"CUSTOMER_ID_AVG_AMOUNT_{days}DAY_WINDOW"] = (rolling.sum() / count).to_numpy()
    return pd.DataFrame(found, rows.index)


def _terminal_features(rows: pd.DataFrame) -> pd.DataFrame:
    frauds = rows.set_index("TX_DATETIME")["TX_FRAUD"]
    late = frauds.rolling(pd.Timedelta(days=_DELAY_DAYS))
    found = {}
    for days in _DAYS:
        whole = frauds.rolling(pd.Timedelta(days=_DELAY_DAYS + days))
        known, count = whole.sum() - late.sum(), whole.count() - late.count()
        found[f"TERMINAL_ID_NB_TX_{days}DAY_WINDOW"] = count.to_numpy()
        found[f"TERMINAL_ID_RISK_{days}DAY_WINDOW"] = (known / count).fillna(0).to_numpy()
    return pd.DataFrame(found, rows.index)
