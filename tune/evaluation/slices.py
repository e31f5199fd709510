"""Figures by slice: a model that is good on the whole holdout may fail on a group of its rows."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data.schema.model_policy import Slice
from data.transform.encoding import as_floats, as_strings, named_column
from data.transform.missing import missing_as_null
from data.validation.row_checks import numeric
from tune.metrics.figures import intervals
from tune.metrics.ranking import Interval
from tune.tasks.learning_task import LearningTask, Scored

LEAST_ROWS = 50
"""Fewest rows; slices with less, or with too few of a label, are listed without figures."""
_MOST_WORDS = 12
_MISSING, _OTHER = "(missing)", "(other)"


class SliceFigures(NamedTuple):
    """Figures of one slice of the holdout; metric and interval are None in a slice too small to judge."""

    column: str
    value: str
    rows: int
    observed: float
    """What was seen: the share of the positive label, that of right answers, or the mean of the labels."""
    predicted: float
    """What the scores say of it; beside `observed` it shows whether the model is calibrated on the slice."""
    metric: float | None
    interval: Interval | None
    others: Mapping[str, float] = MappingProxyType({})
    """Other figures by name; none in a slice too small to judge."""

    @property
    def name(self) -> str:
        """Name of the slice for people."""
        return slice_name(self.column, self.value)


def slice_figures(
    table: pa.Table,
    train: np.ndarray,
    holdout: np.ndarray,
    labels: np.ndarray,
    scored: Scored,
    slices: Sequence[Slice],
    learning: LearningTask[Any],
    entities: np.ndarray | None = None,
    empty_values: Collection[str] = (),
) -> list[SliceFigures]:
    """Evaluate each declared slice of the holdout.

    Args:
        table: raw rows with the slices' columns.
        train: row numbers, from which quantiles and the frequent words are taken.
        holdout: row numbers, shape (n,).
        labels: labels of the holdout, shape (n,).
        scored: scores on the holdout.
        slices: the slices declared in the use case.
        learning: whose metric is reported; PR-AUC depends on the share of the label, so it cannot be compared between
            slices.
        entities: entity codes of the holdout, shape (n,), as for `tune.metrics.figures.intervals`.
        empty_values: columns of which '' is a value; else it is missing.

    Raises:
        DataError: a column is missing, or has edges and holds no numbers.
    """
    found = []
    for column, name, rows in slice_rows(table, train, holdout, slices, empty_values):
        of = None if entities is None else entities[rows]
        found.append(_judged(column, name, labels[rows], scored.take(rows), learning, of))
    return found


def slice_rows(
    table: pa.Table,
    train: np.ndarray,
    holdout: np.ndarray,
    slices: Sequence[Slice],
    empty_values: Collection[str] = (),
) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yield (column, value, positions in `holdout`) of each slice that has rows; arguments as for `slice_figures`."""
    for declared in slices:
        column = missing_as_null(named_column(table, declared.column), declared.column in empty_values)
        codes, names = _groups(column, declared, train)
        for code, name in enumerate(names):
            rows = np.flatnonzero(codes[holdout] == code)
            if len(rows):
                yield declared.column, name, rows


def too_small(labels: np.ndarray, learning: LearningTask[Any]) -> bool:
    """Return whether a slice has too few rows, or too few of a label, to be judged."""
    return len(labels) < LEAST_ROWS or learning.too_few(labels)


def slice_name(column: str, value: str) -> str:
    """Return the name of a slice for people: column and value, or column and range."""
    return f"{column} {value}" if value.startswith(("< ", ">= ")) else f"{column} = {value}"


def _judged(
    column: str,
    name: str,
    labels: np.ndarray,
    scored: Scored,
    learning: LearningTask[Any],
    entities: np.ndarray | None,
) -> SliceFigures:
    head = (column, name, len(labels), *learning.observed(labels, scored))
    if too_small(labels, learning):
        return SliceFigures(*head, None, None)
    figure = learning.judge(labels, scored, learning.metric)
    interval = intervals(lambda counts: {"it": figure(counts)}, len(labels), entities=entities)["it"]
    return SliceFigures(*head, figure(np.ones(len(labels))), interval, learning.slice_extras(labels, scored))


def _groups(column: pa.ChunkedArray, declared: Slice, train: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Return a group code for each row of the table, shape (n,), and the name of each code."""
    is_number = numeric(column.type) and not pa.types.is_boolean(column.type)
    if declared.edges is None and (not is_number or len(column.unique()) <= _MOST_WORDS):
        return _by_word(column, declared.column, train)
    values = as_floats(column, declared.column)
    edges = np.array(declared.edges) if declared.edges is not None else _quantiles(values[train], declared.quantiles)
    codes = np.searchsorted(edges, values, "right")
    codes[np.isnan(values)] = len(edges) + 1
    return codes, [*_ranges(edges), _MISSING]


def _quantiles(values: np.ndarray, count: int) -> np.ndarray:
    finite = values[np.isfinite(values)]
    if not len(finite):
        return np.array([0.0])
    # Three digits are enough to cut at and pleasant to read.
    cuts = [float(f"{cut:.3g}") for cut in np.quantile(finite, np.arange(1, count) / count)]
    return np.unique(cuts)


def _ranges(edges: np.ndarray) -> list[str]:
    inner = [f"{low:g} to < {high:g}" for low, high in pairwise(edges)]
    return [f"< {edges[0]:g}", *inner, f">= {edges[-1]:g}"]


def _by_word(column: pa.ChunkedArray, name: str, train: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Group by value: the most frequent among the train rows, the rest as one group; numbers in their order."""
    exact = pa.types.is_floating(column.type) or pa.types.is_decimal(column.type)
    words = column.cast(pa.string()) if exact else as_strings(column, name)
    counts = words.take(pa.array(train)).drop_null().value_counts().to_pylist()
    frequent = [each["values"] for each in sorted(counts, key=lambda e: (-e["counts"], e["values"]))[:_MOST_WORDS]]
    if numeric(column.type) and not pa.types.is_boolean(column.type):
        frequent.sort(key=float)
    options = pc.SetLookupOptions(value_set=pa.array(frequent, pa.string()))
    codes = pc.call_function("index_in", [words], options).fill_null(len(frequent)).to_numpy().copy()
    codes[words.is_null().to_numpy(zero_copy_only=False)] = len(frequent) + 1
    return codes, [*(word or "''" for word in frequent), _OTHER, _MISSING]
