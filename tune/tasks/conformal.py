"""Prediction intervals by conformal prediction: as wide as the errors were, of rows that a fit had not learned from."""

from __future__ import annotations

import numpy as np

from data.schema.prediction_interval import PredictionInterval

_MOST_GROUPS, _LEAST_ROWS = 10, 100
"""Groups of rows with like predictions, and fewest rows of one: an end of 5 % is then of five rows at least."""


def conformal_interval(
    labels: np.ndarray, predicted: np.ndarray, coverage: float, least: float | None = None
) -> PredictionInterval:
    """Return the interval that holds `coverage` of the labels, by errors of rows that no fit had learned from.

    Errors mostly grow with what is predicted, so the rows are divided into groups of like predictions, each with its
    own quantiles of the errors (Mondrian conformal prediction, Vovk et al. 2003). Each end has its own quantile, so
    that a skewed error has a skewed interval. Between the groups' mean predictions the ends are interpolated, which
    gives up the exact guarantee within a group for an interval without steps; the coverage on the holdout shows what it
    is worth.

    Args:
        labels: numbers of shape (n,).
        predicted: predictions of shape (n,).
        coverage: share of the labels that the interval is to hold.
        least: the least that a label can be.
    """
    order = np.argsort(predicted, kind="stable")
    count = min(max(len(order) // _LEAST_ROWS, 1), _MOST_GROUPS)
    errors, values = (labels.astype(np.float64) - predicted)[order], predicted.astype(np.float64)[order]
    at, below, above = [], [], []
    for rows in _groups(values, count):
        mean, ordered = float(values[rows].mean()), np.sort(errors[rows])
        low, high = _ends(ordered, (1 - coverage) / 2)
        if least is not None and mean + low <= least:
            # No label is below the lower end then: all that may be outside is above.
            high = _ends(ordered, 1 - coverage)[1]
        at.append(mean)
        below.append(low)
        above.append(high)
    return PredictionInterval(coverage=coverage, at=tuple(at), below=tuple(below), above=tuple(above), least=least)


def _groups(values: np.ndarray, count: int) -> list[np.ndarray]:
    """Return the rows of at most `count` groups of ascending values, of about equal size; equal values are together."""
    edges = np.searchsorted(values, values[np.arange(1, count) * len(values) // count], "left")
    return [rows for rows in np.split(np.arange(len(values)), np.unique(edges)) if len(rows)]


def _ends(errors: np.ndarray, share: float) -> tuple[float, float]:
    """Return the errors beyond which a share of sorted ones lies at either side, as of one more row."""
    outside = max(int((len(errors) + 1) * share), 1)
    low, high = float(errors[outside - 1]), float(errors[-outside])
    return min(low, high), max(low, high)
