"""Folds: which of the development rows each fit of the search learns from, and on which it is judged.

The folds follow the split: at random within each label, by entity, or by time. By time a fold learns from earlier rows
only, as the model that serves does: the older half of the rows is never judged, and each of the blocks after it is
judged by what was known before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from tune.dataset.split import SplitKeys, SplitOrder

NOT_JUDGED = -1
"""The fold of a row that no fit is judged on."""
_LEARNED_FIRST = 0.5
"""By time, the share of the rows, the oldest, that are learned from in every fold."""
DEFAULT_FOLDS = 5
MOST_ROWS = 200_000
"""Tables of more development rows are searched by one split: their figures hardly depend on which rows are judged, and
five fits a trial take five times as long."""


class FoldRows(NamedTuple):
    """Row numbers of one fold, int64, ascending."""

    learned: np.ndarray
    judged: np.ndarray


@dataclass(frozen=True)
class Folds:
    """The folds of n development rows."""

    of: np.ndarray
    """The fold of each row, int8 of shape (n,): 0 and up, or `NOT_JUDGED`."""
    forward: bool = False
    """Whether a fold learns only from rows of earlier folds, and from those that are not judged."""

    @property
    def count(self) -> int:
        """Number of folds."""
        return int(self.of.max()) + 1

    @property
    def judged(self) -> np.ndarray:
        """Numbers of the rows that some fold is judged on, ascending."""
        return np.flatnonzero(self.of != NOT_JUDGED)

    def rows(self, fold: int) -> FoldRows:
        """The rows of one fold."""
        learned = self.of < fold if self.forward else self.of != fold
        return FoldRows(np.flatnonzero(learned), np.flatnonzero(self.of == fold))

    def each(self) -> Iterator[FoldRows]:
        """The rows of every fold, in order."""
        return map(self.rows, range(self.count))

    @property
    def learned_share(self) -> float:
        """Mean share of the rows that a fit of the search learns from."""
        return float(np.mean([len(rows.learned) for rows in self.each()])) / len(self.of)


def one_split(train: int, validation: int) -> Folds:
    """One fold: the first `train` rows are learned from, the `validation` rows after them are judged."""
    return Folds(np.repeat(np.array([NOT_JUDGED, 0], np.int8), [train, validation]))


def fold_rows(order: SplitOrder, found: SplitKeys, labels: np.ndarray, wanted: int) -> Folds | None:
    """Divide development rows into folds by what the split orders rows by.

    Args:
        order: how the use case orders rows.
        found: the keys of the n rows.
        labels: their labels, of shape (n,).
        wanted: number of folds; fewer where a label is too rare for each fold to learn from and be judged on all.

    Returns:
        The folds; None where not even two have every label on either side.
    """
    for count in range(wanted, 1, -1):
        folds = Folds(_numbered(order, found, count), forward=order.time is not None)
        if folds.count == count and all(_whole(labels, order, rows) for rows in folds.each()):
            return folds
    return None


def apart_rows(order: SplitOrder, found: SplitKeys) -> np.ndarray:
    """Divide rows into `DEFAULT_FOLDS` sets by what the split orders rows by, int8 of shape (n,): rows of one key, such
    as an entity or a time, are in one set."""
    return _numbered(replace(order, time=None), found, DEFAULT_FOLDS)


def _numbered(order: SplitOrder, found: SplitKeys, count: int) -> np.ndarray:
    first = _LEARNED_FIRST if order.time else 0.0
    shares = first + (1 - first) * np.arange(count) / count
    numbers = np.empty(len(found.keys), np.int8)
    for stratum in range(order.strata):
        own, ordered = found.strata == stratum, found.of(stratum)
        if not len(ordered):
            continue
        # Rows of equal keys stay together, as in the split itself.
        cuts = ordered[np.minimum(np.round(shares * len(ordered)).astype(np.int64), len(ordered) - 1)]
        numbers[own] = np.searchsorted(cuts, found.keys[own], side="right") - 1
    return numbers


def _whole(labels: np.ndarray, order: SplitOrder, rows: FoldRows) -> bool:
    """Whether either side has every class, or numbers that differ."""
    return all(len(np.unique(labels[part])) >= max(order.classes, 2) for part in rows)
