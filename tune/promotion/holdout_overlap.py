"""Overlap of a model's training rows with another's holdout: may it have learned from the rows it is judged on?"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from data.schema.use_case import UseCase
from data.transform.encoding import named_column
from data.transform.event_time import NO_TIME, event_us, moment
from tune.dataset.split import SplitRows
from tune.dataset.training_table import fingerprint
from tune.registry.bundle import BundleManifest


def same_rows(one: pa.Table, other: pa.Table) -> bool:
    """Return whether two tables have equal values, in the same order, in all their common columns (at least two).

    The holdouts of two use cases over one table are the same rows in this sense, although their features differ.
    """
    shared = [name for name in one.column_names if name in other.column_names]
    return len(shared) > 1 and fingerprint(one.select(shared)) == fingerprint(other.select(shared))


def last_learned_us(table: pa.Table, parts: SplitRows, use_case: UseCase) -> int | None:
    """Return the latest event time among the train and validation rows, in microseconds since 1970 UTC.

    For a large table, `table` is its sample. None without an event time, and when one of those rows has none.
    """
    if use_case.event_time is None:
        return None
    times = event_us(named_column(table, use_case.event_time), use_case.event_time)
    learned = times[np.concatenate([parts.train, parts.validation])]
    return None if (learned == NO_TIME).any() else int(learned.max())


def why_seen(model: BundleManifest, own: pa.Table | None, holdout: pa.Table, use_case: UseCase) -> str:
    """Return why a model may have learned from another's holdout, and what to do; empty when it cannot have.

    It cannot when its own holdout `own` has the same rows, or when all rows are later than those it learned from.
    """
    if own is not None and same_rows(own, holdout):
        return ""
    column, learned = use_case.event_time, model.learned_until_us
    if column is None or column != model.event_time or learned is None:
        return "it may have learned from these rows; search for both on one table to compare"
    first = int(event_us(named_column(holdout, column), column).min())
    if first > learned:
        return ""
    begins = "have no time" if first == NO_TIME else f"begin at {moment(first)}"
    return f"it learned from rows up to {moment(learned)}, these {begins}; search on newer rows to compare"
