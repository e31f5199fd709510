"""Dividing rows into train, validation and holdout, as the use case declares."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from data.errors import DataError
from data.schema.use_case import UseCase
from data.transform.encoding import named_column
from data.transform.event_time import NO_TIME, event_us


class SplitRows(NamedTuple):
    """Row numbers of each part, int64, ascending within the table (by time for the time strategy)."""

    train: np.ndarray
    validation: np.ndarray
    holdout: np.ndarray


def split(table: pa.Table, labels: np.ndarray, use_case: UseCase) -> SplitRows:
    """Divide `table` by the declared strategy; the same input gives the same parts.

    time: the latest rows are the holdout, those before them validation; rows of one moment stay together.
    random: at random, each label divided on its own, so that rare ones are in every part.
    entity: at random, all rows of an entity in one part.

    Raises:
        DataError: rows without event time, or a part without both labels.
    """
    declared = use_case.split
    fractions = (1 - declared.validation - declared.holdout, declared.validation)
    if use_case.strategy == "time":
        parts = _by_time(table, str(use_case.event_time), fractions)
    elif use_case.strategy == "entity" and use_case.entity is not None:
        parts = _by_entity(named_column(table, use_case.entity.column), fractions, declared.seed)
    else:
        parts = _at_random(labels, fractions, declared.seed)
    ones = np.array([labels[rows].sum() for rows in parts], np.int64)
    refuse_one_sided(np.stack([[len(rows) for rows in parts] - ones, ones], axis=1), use_case)
    return parts


def _by_time(table: pa.Table, column: str, fractions: tuple[float, float]) -> SplitRows:
    times = event_us(named_column(table, column), column)
    absent = int((times == NO_TIME).sum())
    if absent:
        raise DataError(
            f"column '{column}': {absent:,} rows have no time, so they cannot be split by time; "
            "remove them (rayscore validate lists them) or set split.strategy = 'random'"
        )
    order = np.argsort(times, kind="stable")
    ordered = times[order]
    # Cutting before the first row of a moment keeps that moment whole.
    first, second = (np.searchsorted(ordered, ordered[cut], "left") for cut in _cuts(len(order), fractions))
    return SplitRows(order[:first], order[first:second], order[second:])


def _at_random(labels: np.ndarray, fractions: tuple[float, float], seed: int) -> SplitRows:
    rng = np.random.default_rng(seed)
    pieces = []
    for label in (0, 1):
        rows = rng.permutation(np.flatnonzero(labels == label))
        pieces.append(np.split(rows, _cuts(len(rows), fractions)))
    return SplitRows(*(np.sort(np.concatenate(part)) for part in zip(*pieces, strict=True)))


def _by_entity(column: pa.ChunkedArray, fractions: tuple[float, float], seed: int) -> SplitRows:
    codes = column.combine_chunks().dictionary_encode(null_encoding="encode").indices.to_numpy(zero_copy_only=False)
    sizes = np.bincount(codes)
    entities = np.random.default_rng(seed).permutation(len(sizes))
    ends = np.cumsum(sizes[entities])
    group = np.searchsorted(np.asarray(_cuts(len(codes), fractions)), ends, "left").clip(0, 2)
    part_of = np.empty(len(sizes), np.int64)
    part_of[entities] = group
    return SplitRows(*(np.flatnonzero(part_of[codes] == part) for part in range(3)))


def _cuts(count: int, fractions: tuple[float, float]) -> list[int]:
    return [round(count * fractions[0]), min(round(count * sum(fractions)), max(count - 1, 0))]


def refuse_one_sided(counts: np.ndarray, use_case: UseCase, of: str = "") -> None:
    """Raise DataError unless each part has rows of both labels; `counts` of label 0 and 1 by part, shape (3, 2)."""
    for name, (zeros, ones) in zip(SplitRows._fields, counts.tolist(), strict=True):
        if zeros and ones:
            continue
        what = f"{zeros + ones:,} rows, {ones:,} of them with {use_case.label} = 1"
        raise DataError(
            f"the {use_case.strategy} split leaves {of}the {name} part without both labels ({what}); "
            "give more rows, make the part larger (split.validation, split.holdout) or set split.strategy = 'random'"
        )
