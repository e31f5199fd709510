"""Dividing rows into train, validation and holdout: one definition, whether the table is in memory or streams by.

Every strategy orders the rows by a key and cuts the order where the declared fractions end; rows of equal keys stay
together. By time the key is the event time. By entity it is a hash of the entity. At random it is a hash of the row's
number, and the rows of each class are ordered apart, so that a rare one is in every part: three rows are enough.

The rows of one list of a ranking have one key: by time that of the list's first row, at random a hash of the list.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from data.errors import DataError
from data.schema.task import shown_label
from data.schema.use_case import UseCase
from data.transform.encoding import named_column
from data.transform.event_time import NO_TIME, event_us
from data.transform.hashing import splitmix64
from data.transform.list_codes import group_codes
from data.transform.missing import blank_as_null
from tune.dataset.fingerprint import column_hashes, row_numbers

PARTS = 3
"""Train, validation and holdout, numbered 0, 1 and 2."""


class SplitRows(NamedTuple):
    """Row numbers of each part, int64, ascending within the table."""

    train: np.ndarray
    validation: np.ndarray
    holdout: np.ndarray

    @property
    def development(self) -> np.ndarray:
        """All that is not holdout: the train rows, then the validation rows."""
        return np.concatenate([self.train, self.validation])


class SplitKeys(NamedTuple):
    """What some rows are ordered by: `keys` int64 of shape (n,) within each stratum, `strata` uint8 of shape (n,)."""

    keys: np.ndarray
    strata: np.ndarray

    def take(self, rows: np.ndarray) -> SplitKeys:
        """The keys of some of the rows."""
        return SplitKeys(self.keys[rows], self.strata[rows])

    def of(self, stratum: int) -> np.ndarray:
        """The keys of the rows of one stratum, ascending."""
        return np.sort(self.keys[self.strata == stratum])


@dataclass(frozen=True)
class SplitOrder:
    """How a use case orders rows: a function of the row alone, and of its number in the table."""

    time: str | None
    """Column of the event time, for the time strategy."""
    entity: str | None
    """Column of the entity, for the entity strategy."""
    label: str | None
    """Column of the label, where the rows of each class are ordered apart."""
    fractions: tuple[float, float]
    """Shares of train and validation."""
    seed: int
    classes: int = 2
    """How many classes the label has, 1 for numbers."""
    listed: str | None = None
    """Column of the lists of a ranking: a key is then one of all rows of the table."""

    @property
    def columns(self) -> list[str]:
        """The columns it looks at."""
        return [name for name in (self.time, self.entity, self.label, self.listed) if name]

    @property
    def strata(self) -> int:
        """How many sets of rows are ordered apart."""
        return self.classes if self.label else 1

    def keys(self, table: pa.Table, labels: np.ndarray | None, first_row: int = 0) -> SplitKeys:
        """Return the keys of some rows.

        Args:
            table: the rows, with `columns`.
            labels: their labels, codes of shape (n,); needed where the order has a `label`.
            first_row: number of the first of them in the whole table.

        Raises:
            DataError: rows without event time, or a list of more than one entity.
        """
        strata = np.zeros(table.num_rows, np.uint8) if not self.label or labels is None else labels
        if self.time:
            times = _times(table, self.time)
            return SplitKeys(_first_of_each(times, table, self.listed) if self.listed else times, strata)
        column = self.entity or self.listed
        found = column_hashes(blank_as_null(named_column(table, column))) if column else None
        if self.entity and self.listed and found is not None:
            _refuse_divided(found, table, self.listed, self.entity)
        hashes = row_numbers(first_row, table.num_rows) if found is None else found
        return SplitKeys((splitmix64(splitmix64(hashes, self.seed)) >> np.uint64(1)).astype(np.int64), strata)


@dataclass(frozen=True)
class TableSplit:
    """Where one table is cut."""

    order: SplitOrder
    cuts: np.ndarray
    """Of each stratum the first key of validation and the first of holdout, int64 of shape (strata, 2)."""

    def parts(self, found: SplitKeys) -> np.ndarray:
        """The part of each row, uint8 of shape (n,)."""
        first, second = self.cuts[found.strata].T
        return (found.keys >= first).astype(np.uint8) + (found.keys >= second).astype(np.uint8)


def split_order(use_case: UseCase) -> SplitOrder:
    """The order that a use case declares."""
    declared, strategy = use_case.split, use_case.strategy
    return SplitOrder(
        time=use_case.event_time if strategy == "time" else None,
        entity=use_case.entity.column if strategy == "entity" and use_case.entity else None,
        label=use_case.label if strategy == "random" and use_case.task.labels is not None else None,
        fractions=(1 - declared.validation - declared.holdout, declared.validation),
        seed=declared.seed,
        classes=use_case.task.strata,
        listed=use_case.task.list_column,
    )


def cut_ranks(rows: int, fractions: tuple[float, float]) -> list[int]:
    """Of `rows` rows in order, the numbers of the two whose keys begin validation and holdout; at most the last.

    From three rows on each part has at least one, unless rows of equal keys stay together.
    """
    wanted = [round(rows * share) for share in (fractions[0], sum(fractions))]
    if rows < PARTS:
        return [min(rank, max(rows - 1, 0)) for rank in wanted]
    first = min(max(wanted[0], 1), rows - 2)
    return [first, min(max(wanted[1], first + 1), rows - 1)]


def cut(order: SplitOrder, found: SplitKeys) -> TableSplit:
    """Find the cuts of a table by the keys of all its rows."""
    ordered = [found.of(stratum) for stratum in range(order.strata)]
    # A stratum without rows is cut anywhere.
    cuts = [keys[cut_ranks(len(keys), order.fractions)] if len(keys) else np.zeros(2, np.int64) for keys in ordered]
    return TableSplit(order, np.array(cuts))


def split(table: pa.Table, labels: np.ndarray, use_case: UseCase) -> SplitRows:
    """Divide a table in memory by the declared strategy; the same input gives the same parts.

    Raises:
        DataError: rows without event time, or a part without every class.
    """
    order = split_order(use_case)
    found = order.keys(table, labels)
    part = cut(order, found).parts(found)
    refuse_lacking(class_counts(part, labels, use_case), use_case)
    return rows_of(part)


def rows_of(part: np.ndarray) -> SplitRows:
    """The rows of each part, from the part of each row."""
    return SplitRows(*(np.flatnonzero(part == number) for number in range(PARTS)))


def class_counts(part: np.ndarray, labels: np.ndarray, use_case: UseCase) -> np.ndarray:
    """Return the rows of each class by part, shape (3, classes); of numbers all rows, shape (3, 1)."""
    classes = use_case.task.strata
    codes = part * classes + labels if classes > 1 else part
    return np.bincount(codes, minlength=classes * PARTS).reshape(PARTS, classes)


def refuse_lacking(counts: np.ndarray, use_case: UseCase, of: str = "") -> None:
    """Raise DataError unless each part has rows of every class; `counts` as `class_counts` returns them."""
    labels = use_case.task.labels or ()
    for name, own in zip(SplitRows._fields, counts.tolist(), strict=True):
        lacking = [at for at, count in enumerate(own) if not count]
        if not lacking:
            continue
        # Of two labels the one that is told of is the positive one, which is rare as a rule.
        told = len(own) - 1 if len(own) == 2 else lacking[0]
        what = f"{sum(own):,} rows" + (f", {own[told]:,} of them with {_with(use_case, told)}" if labels else "")
        every = {1: "rows", 2: "both labels"}.get(len(own), "every class")
        raise DataError(
            f"the {use_case.strategy} split leaves {of}the {name} part without {every} ({what}); "
            + _remedy(name, counts, use_case, sampled=bool(of))
        )


def _with(use_case: UseCase, code: int) -> str:
    return f"{use_case.label} = {shown_label((use_case.task.labels or ())[code])}"


def _remedy(part: str, counts: np.ndarray, use_case: UseCase, sampled: bool) -> str:
    """Say what would give a part every class: never what is declared already, nor what cannot help."""
    totals = counts.sum(axis=0)
    rarer = int(np.argmin(totals))
    if use_case.task.labels is None:
        return "give more lists" if use_case.task.list_column else "give more rows"
    if sampled:
        return (
            f"the sample has {totals[rarer]:,} rows with {_with(use_case, rarer)}: raise RAYSCORE_TRAIN_MEMORY_MB so "
            "that it holds more, or give more of those rows"
        )
    if totals[rarer] < PARTS:
        return (
            f"the table has {totals[rarer]:,} rows with {_with(use_case, rarer)}, and each of the {PARTS} parts "
            "needs at least one: give more of those rows"
        )
    if use_case.strategy == "entity":
        return (
            f"rows of one entity stay together: give rows of more entities, {_resized(part, use_case)}, try another "
            "split.seed, or set split.strategy = 'random' if an entity may be in several parts"
        )
    return f"give more rows, {_resized(part, use_case)}, or set split.strategy = 'random'"


def _resized(part: str, use_case: UseCase) -> str:
    declared = use_case.split
    if part == "train":
        return f"make the others smaller (split.validation is {declared.validation:g}, holdout {declared.holdout:g})"
    return f"make the part larger (split.{part} is {getattr(declared, part):g})"


def _first_of_each(times: np.ndarray, table: pa.Table, listed: str) -> np.ndarray:
    """Return for each row the time of its list's first row."""
    codes = group_codes(named_column(table, listed), listed)
    first = np.full(int(codes.max(initial=-1)) + 1, np.iinfo(np.int64).max)
    np.minimum.at(first, codes, times)
    return first[codes]


def _refuse_divided(entities: np.ndarray, table: pa.Table, listed: str, entity: str) -> None:
    """Raise DataError for a list of several entities, which a split by entity would divide."""
    codes = group_codes(named_column(table, listed), listed)
    _, first = np.unique(codes, return_index=True)
    other = np.flatnonzero(entities != entities[first][codes])
    if len(other):
        name = table.column(listed)[int(other[0])].as_py()
        raise DataError(
            f"{listed} = {name!r} has rows of more than one '{entity}', so the entity split would divide it, and a "
            "list is learned and judged whole: set split.strategy = 'random' or 'time', or correct the rows"
        )


def _times(table: pa.Table, column: str) -> np.ndarray:
    times = event_us(named_column(table, column), column)
    absent = int((times == NO_TIME).sum())
    if absent:
        raise DataError(
            f"column '{column}': {absent:,} rows have no time, so they cannot be split by time; "
            "remove them (rayscore validate lists them) or set split.strategy = 'random'"
        )
    return times
