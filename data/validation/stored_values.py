"""What the online store would have held at the time of a table's rows, by the schedule, beside the rows' own values."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data.feature_views.batch_view import with_batch_view
from data.schema.features.feature import Feature, FeatureType
from data.schema.use_case import UseCase
from data.transform.encoding import as_floats, as_strings
from data.transform.missing import missing_mask
from data.validation.share import Share

MOST_ROWS = 20_000_000
"""Rows, with those of the history, up to which the stored values are looked for: they are joined in memory."""
HEADER = ["online feature", "another value than the row's own", "no value"]


class StoredValue(NamedTuple):
    """How often the store would not have held a row's own value of one online feature."""

    name: str
    other: Share
    """Rows for which it held another value."""
    absent: Share
    """Rows with a value for which it held none."""


class StoredValues(NamedTuple):
    """The online features of a table by the schedule of its use case."""

    title: str
    features: list[StoredValue]

    def lines(self) -> list[str]:
        """Return what the terminal shows."""
        found = [f"  {name}: {other} another value, {absent} none" for name, other, absent in self.features]
        return [f"{self.title}, share of rows that would have got another value than their own:", *found]

    def rows(self) -> list[list[str]]:
        """Return the cells of a table with `HEADER`."""
        return [[name, str(other), str(absent)] for name, other, absent in self.features]


def stored_columns(use_case: UseCase) -> list[str]:
    """Return the columns of a table that `stored_values` needs, each once."""
    names = [use_case.entity.column if use_case.entity else None, use_case.event_time]
    return [name for name in (*names, *(feature.name for feature in use_case.schema_.online)) if name is not None]


def stored_values(table: pa.Table, use_case: UseCase, history: pa.Table | None = None) -> StoredValues:
    """Compare the rows' own values of online features with those that the store would have held.

    Args:
        table: n rows with the `stored_columns`.
        use_case: with online features, and so with a schedule.
        history: earlier rows of the table.

    Raises:
        DataError: as `with_batch_view`.
    """
    schedule = use_case.materialized
    assert schedule is not None
    held = with_batch_view(table, use_case, history)
    found = [_compared(feature, table, held) for feature in use_case.schema_.online]
    return StoredValues(f"materialized every {schedule.every}, there {schedule.takes} later", found)


def _compared(feature: Feature, table: pa.Table, held: pa.Table) -> StoredValue:
    own, stored = table.column(feature.name), held.column(feature.name)
    own_missing, absent = (missing_mask(column, feature.empty_is_value) for column in (own, stored))
    differs = _unequal(feature, own, stored)
    other, lost = ~absent & (own_missing | differs), absent & ~own_missing
    return StoredValue(feature.name, *(Share(int(mask.sum()), table.num_rows) for mask in (other, lost)))


def _unequal(feature: Feature, own: pa.ChunkedArray, stored: pa.ChunkedArray) -> np.ndarray:
    if feature.type is not FeatureType.CATEGORY:
        return as_floats(own, feature.name) != as_floats(stored, feature.name)
    words = [as_strings(column, feature.name) for column in (own, stored)]
    return pc.call_function("not_equal", words).fill_null(True).to_numpy(zero_copy_only=False)
