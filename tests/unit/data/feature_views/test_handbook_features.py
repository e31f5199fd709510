"""The features of the fraud-detection handbook, by its own pandas code and by windows that are declared."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa

from data.feature_views.point_in_time import with_windows
from data.schema.use_case import UseCase, parse_use_case

_DAYS = (1, 7, 30)
_DELAY_DAYS = 7
_HEAD = """
name = "handbook"
label = "TX_FRAUD"
key = "TRANSACTION_ID"
event_time = "TX_DATETIME"
[events.transactions]
entities = ["CUSTOMER_ID"]
values = { TX_AMOUNT = { decimals = 2 } }
[events.frauds]
entities = ["TERMINAL_ID"]
values = { TX_FRAUD = { type = "integer" } }
delay = "7d"
[features]
"""
_WINDOWS = """
CUSTOMER_ID_NB_TX_{0}DAY_WINDOW = {{ aggregate = "count", window = "{0}d", by = "CUSTOMER_ID", with_current = true }}
CUSTOMER_ID_AVG_AMOUNT_{0}DAY_WINDOW = {{ aggregate = "mean", of = "TX_AMOUNT", window = "{0}d", with_current = true }}
TERMINAL_ID_NB_TX_{0}DAY_WINDOW = {{ aggregate = "count", window = "{0}d", delay = "7d", by = "TERMINAL_ID" }}
TERMINAL_ID_RISK_{0}DAY_WINDOW = {{ aggregate = "mean", of = "TX_FRAUD", window = "{0}d", delay = "7d" }}
"""


def test_windows_are_those_of_the_handbook():
    """Counts and risks equal its own to the bit, means to 1e-9, with times of the same second among the rows."""
    frame = _transactions(600)
    table = with_windows(pa.Table.from_pandas(frame, preserve_index=False), _use_case()).table.to_pandas()
    for entity, expected in (("CUSTOMER_ID", _customer_features), ("TERMINAL_ID", _terminal_features)):
        groups = [expected(rows) for _, rows in frame.groupby(entity)]
        published = pd.concat(groups).sort_index()
        assert len(published) == len(table)
        for name in published:
            found = table[name].fillna(0).to_numpy(np.float64)
            if "AVG" in name:
                np.testing.assert_allclose(found, published[name], rtol=0, atol=1e-9)
            else:
                np.testing.assert_array_equal(found, published[name])


def _use_case() -> UseCase:
    return parse_use_case(_HEAD + "".join(_WINDOWS.format(days) for days in _DAYS), "handbook.toml")


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
