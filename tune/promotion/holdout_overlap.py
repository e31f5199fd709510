"""Overlap of a model's training rows with another's holdout: may it have learned from the rows it is judged on?"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from data.schema.use_case import UseCase
from data.transform.encoding import named_column
from data.transform.event_time import NO_TIME, event_us, moment
from tune.dataset.training_table import fingerprint
from tune.registry.bundle import BundleManifest


def same_rows(one: pa.Table, other: pa.Table) -> bool:
    """Return whether two tables have equal values, in the same order, in all their common columns (at least two).

    The holdouts of two use cases over one table are the same rows in this sense, although their features differ.
    """
    shared = [name for name in one.column_names if name in other.column_names]
    return len(shared) > 1 and fingerprint(one.select(shared)) == fingerprint(other.select(shared))


def last_learned_us(table: pa.Table, use_case: UseCase) -> int | None:
    """Return the latest event time of a table, in microseconds since 1970 UTC: what serves learns from every row.

    For a large table, `table` is its sample. None without an event time, and when a row has none.
    """
    if use_case.event_time is None:
        return None
    times = event_us(named_column(table, use_case.event_time), use_case.event_time)
    return None if (times == NO_TIME).any() else int(times.max())


class UnseenRows(NamedTuple):
    """The rows of a holdout from which a model has not learned, as bool of shape (n,), and how it scores them."""

    rows: np.ndarray
    measured: bool
    """Whether only its measured model has not learned from them."""


def unseen_rows(model: BundleManifest, own: pa.Table | None, holdout: pa.Table, use_case: UseCase) -> UnseenRows | str:
    """Return the rows of another model's holdout from which a model has not learned, or why there are none.

    Its measured model has not learned from its own holdout `own`; the one that serves not from later rows than those
    that it learned from.
    """
    if own is not None and same_rows(own, holdout):
        return UnseenRows(np.ones(holdout.num_rows, bool), measured=True)
    column, learned = use_case.event_time, model.learned_until_us
    if column is None or column != model.event_time or learned is None:
        return "it may have learned from these rows; search for both on one table to compare"
    times = event_us(named_column(holdout, column), column)
    later = times > learned
    if later.any():
        return UnseenRows(later, measured=False)
    last = int(times.max())
    ends = "have no time" if last == NO_TIME else f"end at {moment(last)}"
    return f"it learned from rows up to {moment(learned)}, these {ends}; search on newer rows to compare"
