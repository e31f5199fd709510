"""Dividing a large table piece by piece: the part of a row from the row alone, and a few numbers for the table."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from data.errors import DataError
from data.schema.use_case import UseCase
from data.transform.encoding import named_column
from data.transform.event_time import NO_TIME, event_us
from tune.dataset.fingerprint import column_hashes, mixed, row_numbers

PARTS = 3
"""Train, validation and holdout, numbered 0, 1 and 2."""
_POINTS = 4096


class TimeSplit(NamedTuple):
    """Train before `first`, validation before `second`, holdout from there; microseconds since 1970 UTC."""

    column: str
    first: int
    second: int

    @property
    def columns(self) -> list[str]:
        """The columns it looks at."""
        return [self.column]

    def of(self, table: pa.Table, first_row: int) -> np.ndarray:
        """The part of each row, uint8 of shape (n,)."""
        times = event_us(named_column(table, self.column), self.column)
        return ((times >= self.first).astype(np.uint8) + (times >= self.second)).astype(np.uint8)


class HashSplit(NamedTuple):
    """At random by a hash: of the entity, so that all rows of one are in one part, or of the row's number."""

    entity: str | None
    train: float
    validation: float
    seed: int

    @property
    def columns(self) -> list[str]:
        """The columns it looks at."""
        return [self.entity] if self.entity else []

    def of(self, table: pa.Table, first_row: int) -> np.ndarray:
        """The part of each row, uint8 of shape (n,)."""
        if self.entity:
            values = column_hashes(named_column(table, self.entity))
        else:
            values = row_numbers(first_row, table.num_rows)
        drawn = uniform(values, self.seed)
        return ((drawn >= self.train).astype(np.uint8) + (drawn >= self.train + self.validation)).astype(np.uint8)


Division = TimeSplit | HashSplit


class TimeSketch(NamedTuple):
    """Event times of some rows: evenly spaced in rank, each standing for `weight` rows."""

    times: np.ndarray
    weight: int


def sketch_times(table: pa.Table, column: str) -> TimeSketch:
    """Sketch the event times of some rows: exact up to 4,096 rows, else within a 4,096th of them.

    Raises:
        DataError: a row has no time.
    """
    times = np.sort(event_us(named_column(table, column), column))
    absent = int(np.searchsorted(times, NO_TIME, "right"))
    if absent:
        raise DataError(
            f"column '{column}': {absent:,} rows have no time, so they cannot be split by time; "
            "remove them (rayscore validate lists them) or set split.strategy = 'random'"
        )
    weight = max(len(times) // _POINTS, 1)
    return TimeSketch(times[::weight].copy(), weight)


def divide_by_time(sketches: Iterable[TimeSketch], use_case: UseCase) -> TimeSplit:
    """Cut where the use case's fractions of the sketched rows end; rows of one moment stay together."""
    held = list(sketches)
    times = np.concatenate([sketch.times for sketch in held])
    weights = np.concatenate([np.full(len(sketch.times), sketch.weight) for sketch in held])
    order = np.argsort(times, kind="stable")
    before = np.cumsum(weights[order])
    declared = use_case.split
    ends = (1 - declared.validation - declared.holdout, 1 - declared.holdout)
    at = [int(np.searchsorted(before, round(int(before[-1]) * end), "right")) for end in ends]
    first, second = (int(times[order][min(index, len(times) - 1)]) for index in at)
    return TimeSplit(str(use_case.event_time), first, second)


def divide_by_hash(use_case: UseCase) -> HashSplit:
    """At random, as the use case declares: by entity or by row."""
    declared = use_case.split
    entity = use_case.entity.column if use_case.strategy == "entity" and use_case.entity else None
    return HashSplit(entity, 1 - declared.validation - declared.holdout, declared.validation, declared.seed)


def uniform(values: np.ndarray, seed: int) -> np.ndarray:
    """Draw a number in [0, 1) for each uint64 value, the same for the same value and seed."""
    return (mixed(mixed(values, seed)) >> np.uint64(11)) / float(1 << 53)
