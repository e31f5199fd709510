"""Calibration of probabilities on the validation rows, by Platt's method or by isotonic regression.

A calibrator is a function of the booster's margin (log-odds), so that the exporter can put it behind the trees in the
same ONNX graph.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from data.errors import TrainingFailed
from data.schema.model_policy import Calibration

_LEAST_GAP = 0.05
"""Least distance of two knots in log-odds: between nearer ones the curve may be so steep that it magnifies rounding,
and it fits noise."""
_MOST_KNOTS = 64


class PlattCalibration(NamedTuple):
    """Platt's calibration: the log-odds become `slope` * margin + `offset`, `slope` > 0."""

    slope: float
    offset: float

    @property
    def steepness(self) -> float:
        """Largest slope of the curve: rise of the probability per rise of the margin by 1."""
        return self.slope / 4

    def probabilities(self, margins: np.ndarray) -> np.ndarray:
        """Return calibrated probabilities, float64 of shape (n,), for margins of shape (n,)."""
        return 1 / (1 + np.exp(-(self.slope * margins.astype(np.float64) + self.offset)))


class IsotonicCalibration(NamedTuple):
    """Isotonic calibration: linear between knots, constant outside; `margins` ascend and `values` do not fall."""

    margins: np.ndarray
    values: np.ndarray

    @property
    def steepness(self) -> float:
        """Largest slope of the curve: rise of the probability per rise of the margin by 1."""
        return float((np.diff(self.values) / np.diff(self.margins)).max())

    def probabilities(self, margins: np.ndarray) -> np.ndarray:
        """Return calibrated probabilities, float64 of shape (n,), for margins of shape (n,)."""
        return np.interp(margins.astype(np.float64), self.margins, self.values)


Calibrator = PlattCalibration | IsotonicCalibration


def fit_calibrator(kind: Calibration, margins: np.ndarray, labels: np.ndarray) -> Calibrator | None:
    """Fit a calibrator on the validation rows.

    Args:
        kind: the method.
        margins: log-odds of the booster, shape (n,).
        labels: 0 and 1, shape (n,); both occur.

    Returns:
        The calibrator, or None for `Calibration.NONE`.

    Raises:
        TrainingFailed: higher margins do not go with label 1, so that there is nothing to calibrate.
    """
    if kind is Calibration.NONE:
        return None
    fitted = _platt(margins, labels) if kind is Calibration.PLATT else _isotonic(margins, labels)
    if fitted is None:
        raise TrainingFailed(
            "the model ranks the validation rows no better than chance, so there is nothing to calibrate; "
            "look at the features, or declare calibration = 'none'"
        )
    return fitted


def _platt(margins: np.ndarray, labels: np.ndarray) -> PlattCalibration | None:
    """Fit Platt's method (1999) with its soft targets, which keep the slope finite when the labels are separable."""
    ones = float(labels.sum())
    zeros = len(labels) - ones
    # scikit-learn takes hard labels only: a soft target is a row with each label, weighted.
    target = np.where(labels == 1, (ones + 1) / (ones + 2), 1 / (zeros + 2))
    model = LogisticRegression(C=np.inf, tol=1e-8, max_iter=1000)
    column = margins.astype(np.float64).reshape(-1, 1)
    both = np.repeat([1, 0], len(labels))
    model.fit(np.concatenate([column, column]), both, np.concatenate([target, 1 - target]))
    line = PlattCalibration(float(np.ravel(model.coef_)[0]), float(np.ravel(model.intercept_)[0]))
    return line if line.slope > 1e-6 else None


def _isotonic(margins: np.ndarray, labels: np.ndarray) -> IsotonicCalibration | None:
    """Fit centered isotonic regression (Oron and Flournoy 2017): linear between the centers of the constant blocks.

    Unlike plain isotonic regression, whose steps make ties of all rows within a block, it keeps their order.
    """
    order = np.argsort(margins, kind="stable")
    sorted_margins, ones = margins[order].astype(np.float64), labels[order].astype(np.float64)
    level = IsotonicRegression().fit_transform(sorted_margins, ones)
    gap = max(_LEAST_GAP, float(sorted_margins[-1] - sorted_margins[0]) / _MOST_KNOTS)
    knots = _merged(np.flatnonzero(np.diff(level, prepend=-1.0)), sorted_margins, ones, gap)
    if len(knots) < 2:
        return None
    places, shares, sizes = np.array(knots).T
    values = shares.copy()
    # Blocks of one label only: half a row of the other keeps probabilities off 0 and 1.
    values[0] = min(max(shares[0], 0.5 / (sizes[0] + 1)), shares[1])
    values[-1] = max(min(shares[-1], 1 - 0.5 / (sizes[-1] + 1)), values[-2])
    return IsotonicCalibration(places, values) if values[-1] > values[0] else None


def _merged(starts: np.ndarray, margins: np.ndarray, ones: np.ndarray, gap: float) -> list[tuple[float, float, float]]:
    """Return (mean margin, share of label 1, rows) of each constant block, blocks nearer than `gap` merged."""
    knots: list[tuple[float, float, float]] = []
    for start, end in zip(starts, np.append(starts[1:], len(margins)), strict=True):
        knot = (float(margins[start:end].mean()), float(ones[start:end].mean()), float(end - start))
        while knots and knot[0] - knots[-1][0] < gap:
            knot = _both(knots.pop(), knot)
        knots.append(knot)
    return knots


def _both(one: tuple[float, float, float], other: tuple[float, float, float]) -> tuple[float, float, float]:
    rows = one[2] + other[2]
    return (one[0] * one[2] + other[0] * other[2]) / rows, (one[1] * one[2] + other[1] * other[2]) / rows, rows
