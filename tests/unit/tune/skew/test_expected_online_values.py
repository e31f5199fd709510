"""What the store should hold, by the table alone, held against a real store."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone

import pyarrow as pa
import pytest

from data.errors import ConfigError
from data.sources.atomic_output import write_table
from tests.support.training.stored_cards import stored_cards
from tune.skew.expected_online_values import stored_values

NOW = datetime(2026, 6, 1, tzinfo=timezone.utc)
NOW_US = int(NOW.timestamp() * 1e6)
CARD = stored_cards()


def stored(tmp_path, *rows: tuple[str | None, float, int | None]):
    """What is expected of a table of entity, age in days, and velocity."""
    columns = {
        "user_id": [entity for entity, _, _ in rows],
        "timestamp": pa.array([NOW - timedelta(days=age) for _, age, _ in rows], pa.timestamp("us", "UTC")),
        "device_trust_score": [0] * len(rows),
        "velocity_last_24h": pa.array([velocity for _, _, velocity in rows], pa.int64()),
        "cardholder_age": [40] * len(rows),
    }
    write_table(pa.table(columns), tmp_path / "stored.parquet")
    return stored_values(str(tmp_path / "stored.parquet"), CARD, NOW_US)


def test_newest_row_of_each_entity_counts(tmp_path):
    """The latest row wins whatever the order; a zero is a value, a null is none."""
    found = stored(
        tmp_path, ("a", 1, 5), ("a", 3, 4), ("b", 3, 1), ("b", 2, None), (None, 1, 1), ("", 1, 1), (" ", 1, 1)
    )
    assert found == {
        "a": {"device_trust_score": 0, "velocity_last_24h": 5, "cardholder_age": 40},
        "b": {"device_trust_score": 0, "cardholder_age": 40},
    }


def test_expired_and_future_rows_are_not_expected(tmp_path):
    """A row past its ttl is not used, and one from the day after tomorrow is not written."""
    assert stored(tmp_path, ("old", 366, 1), ("early", -2, 1)) == {}


def test_later_of_two_rows_of_one_moment_is_expected(tmp_path):
    """Of rows of one moment the last in the table is what the store keeps."""
    found = stored(tmp_path, ("a", 1, 5), ("a", 1, 6), ("b", 1, 6), ("b", 1, 5), ("b", 2, 9))
    assert {entity: values["velocity_last_24h"] for entity, values in found.items()} == {"a": 6, "b": 5}


def test_use_case_without_online_features_has_nothing_stored(tmp_path):
    """Asking what a store holds that there is none of is refused."""
    fresh = stored_cards()
    features = {name: each for name, each in fresh.features.items() if not each.online}
    with pytest.raises(ConfigError):
        stored_values(str(tmp_path), fresh.model_copy(update={"features": features}), int(time.time() * 1e6))
