"""Figures by slice: a model that is good on the whole holdout may fail on a group of its rows."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data.schema.model_policy import Slice
from data.schema.search import Metric
from data.transform.encoding import as_floats, as_strings, named_column
from data.transform.missing import missing_as_null
from data.validation.row_checks import numeric
from tune.metrics.figures import Scored, intervals, value
from tune.metrics.ranking import Interval, Ranking

LEAST_ROWS, LEAST_OF_A_LABEL = 50, 5
"""Fewest rows, and fewest rows of either label; slices with less are listed without figures."""
_MOST_WORDS = 12
_MISSING, _OTHER = "(missing)", "(other)"


class SliceFigures(NamedTuple):
    """Figures of one slice of the holdout; metric, precision and recall are None in a slice too small to judge."""

    column: str
    value: str
    rows: int
    share: float
    """Share of label 1."""
    mean: float
    """Mean probability; compared with `share` it shows whether the model is calibrated on the slice."""
    metric: float | None
    interval: Interval | None
    precision: float | None
    recall: float | None

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
    metric: Metric,
    entities: np.ndarray | None = None,
    empty_values: Collection[str] = (),
) -> list[SliceFigures]:
    """Evaluate each declared slice of the holdout.

    Args:
        table: raw rows with the slices' columns.
        train: row numbers, from which quantiles and the frequent words are taken.
        holdout: row numbers, shape (n,).
        labels: labels of the holdout, shape (n,).
        scored: probabilities on the holdout, and the threshold.
        slices: the slices declared in the use case.
        metric: the metric to report; one that depends on the share of label 1 cannot be compared between slices.
        entities: entity codes of the holdout, shape (n,), as for `tune.metrics.figures.intervals`.
        empty_values: columns of which '' is a value; else it is missing.

    Raises:
        DataError: a column is missing, or has edges and holds no numbers.
    """
    found = []
    for column, name, rows in slice_rows(table, train, holdout, slices, empty_values):
        part = Scored(scored.probabilities[rows], scored.threshold)
        of = None if entities is None else entities[rows]
        found.append(_judged(column, name, labels[rows], part, metric, of))
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


def too_small(labels: np.ndarray) -> bool:
    """Return whether a slice has too few rows, or too few of a label, to be judged."""
    ones = int(labels.sum())
    return len(labels) < LEAST_ROWS or min(ones, len(labels) - ones) < LEAST_OF_A_LABEL


def slice_name(column: str, value: str) -> str:
    """Return the name of a slice for people: column and value, or column and range."""
    return f"{column} {value}" if value.startswith(("< ", ">= ")) else f"{column} = {value}"


def _judged(
    column: str, name: str, labels: np.ndarray, scored: Scored, metric: Metric, entities: np.ndarray | None
) -> SliceFigures:
    ones = int(labels.sum())
    head = (column, name, len(labels), ones / len(labels), float(scored.probabilities.mean()))
    if too_small(labels):
        return SliceFigures(*head, None, None, None, None)
    ranking = Ranking(labels, scored.probabilities)
    chosen = scored.probabilities.astype(np.float64) >= scored.threshold
    hits = float(labels[chosen].sum())

    def figure(counts: np.ndarray | None = None) -> float:
        return value(ranking, metric, scored.threshold, counts)

    interval = intervals(lambda counts: {"it": figure(counts)}, len(labels), entities=entities)["it"]
    return SliceFigures(*head, figure(), interval, hits / max(float(chosen.sum()), 1.0), hits / ones)


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
