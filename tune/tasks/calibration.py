"""Fits of calibration on rows that the model did not learn from: Platt's, beta, isotonic, or what the rows favour."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from data.errors import TrainingFailed
from data.schema.model_policy import Calibration
from tune.tasks.calibration_curves import (
    BetaCalibration,
    Calibrator,
    IsotonicCalibration,
    PlattCalibration,
    TemperatureCalibration,
    beta_columns,
    log_odds_to_probability,
)

_LEAST_GAP = 0.05
"""Least distance of two knots in log-odds: between nearer ones the curve may be so steep that it magnifies rounding,
and it fits noise."""
_MOST_KNOTS = 64
_LEAST_SLOPE = 1e-6
_PRIOR_SPREAD = 3.0
"""Standard deviation of the normal prior of beta calibration's two exponents around 1, which correct nothing."""
_NEWTON_STEPS = 50
_LOG_TEMPERATURES = (-3.0, 3.0)
_FOLDS = 5
"""Folds by which a method is chosen when the rows bring none."""


def fit_calibrator(
    kind: Calibration, margins: np.ndarray, labels: np.ndarray, folds: np.ndarray | None = None
) -> Calibrator | None:
    """Fit a calibrator on rows that the model did not learn from.

    `Calibration.AUTO` fits each method on all folds but one and takes the log loss on that one, for every fold in turn.
    Of the methods whose mean loss is within one standard error (of the paired differences, row by row) of the least,
    it takes the simplest: none, Platt's, beta, isotonic. A method that some fold does not let fit is out.

    Args:
        kind: the method, or how to choose it.
        margins: log-odds of the model, shape (n,); ties are fine.
        labels: 0 and 1, shape (n,); both occur.
        folds: fold of each row, whole numbers of shape (n,): rows that belong together share one. None, or all the
            same: five folds by row number, each label dealt out in turn.

    Returns:
        The calibrator, or None for no correction: as declared, or as chosen.

    Raises:
        TrainingFailed: a method is declared, and higher margins do not go with label 1, so that there is nothing to
            calibrate. With `Calibration.AUTO` such a model is left as it is.
    """
    if kind is Calibration.AUTO:
        return _chosen(margins, labels, folds)
    fitted = _fitted(kind, margins, labels)
    if fitted is None and kind is not Calibration.NONE:
        raise TrainingFailed(
            "the model ranks the rows out of fold no better than chance, so there is nothing to calibrate; "
            "look at the features, or declare calibration = 'none'"
        )
    return fitted


def fit_temperature(kind: Calibration, margins: np.ndarray, labels: np.ndarray) -> TemperatureCalibration | None:
    """Fit the temperature of several classes on rows that the model did not learn from.

    With `Calibration.AUTO` it is used where it lowers the log loss by more than one standard error (of the paired
    differences, row by row): one number, fitted to many rows, needs no rows kept apart.

    Args:
        kind: `TEMPERATURE`, `AUTO` or `NONE`.
        margins: of shape (n, classes).
        labels: codes of shape (n,).
    """
    if kind is Calibration.NONE:
        return None
    rows, codes = np.arange(len(labels)), labels.astype(np.int64)

    def losses(log_temperature: float) -> np.ndarray:
        scaled = TemperatureCalibration(float(np.exp(log_temperature))).probabilities(margins)
        return -np.log(np.maximum(scaled[rows, codes], np.finfo(np.float64).eps))

    found: Any = minimize_scalar(lambda at: losses(at).mean(), bounds=_LOG_TEMPERATURES, method="bounded")
    gains = losses(0.0) - losses(found.x)
    if kind is Calibration.AUTO and _within_one_error(gains):
        return None
    return TemperatureCalibration(float(np.exp(found.x)))


def _chosen(margins: np.ndarray, labels: np.ndarray, folds: np.ndarray | None) -> Calibrator | None:
    if folds is None or len(np.unique(folds)) < 2:
        folds = _dealt(labels)
    candidates: list[tuple[np.ndarray, Calibrator | None]] = [
        (_log_loss(labels, log_odds_to_probability(margins)), None)
    ]
    for kind in (Calibration.PLATT, Calibration.BETA, Calibration.ISOTONIC):
        losses = _cross_fitted_losses(kind, margins, labels, folds)
        calibrator = _fitted(kind, margins, labels)
        if losses is not None and calibrator is not None:
            candidates.append((losses, calibrator))
    least = min((losses for losses, _ in candidates), key=lambda losses: losses.mean())
    return next(calibrator for losses, calibrator in candidates if _within_one_error(losses - least))


def _within_one_error(differences: np.ndarray) -> bool:
    return bool(differences.mean() <= differences.std() / np.sqrt(len(differences)))


def _dealt(labels: np.ndarray) -> np.ndarray:
    """Return five folds by row number, each label dealt out in turn, so that a few rows of one are in all folds."""
    folds = np.empty(len(labels), np.int64)
    for label in (0, 1):
        rows = np.flatnonzero(labels == label)
        folds[rows] = np.arange(len(rows)) % _FOLDS
    return folds


def _cross_fitted_losses(
    kind: Calibration, margins: np.ndarray, labels: np.ndarray, folds: np.ndarray
) -> np.ndarray | None:
    """Return the log loss of each row by a fit on the other folds, or None where one of the fits fails."""
    losses = np.empty(len(labels))
    for fold in np.unique(folds):
        held_out = folds == fold
        fitted = _fitted(kind, margins[~held_out], labels[~held_out])
        if fitted is None:
            return None
        losses[held_out] = _log_loss(labels[held_out], fitted.probabilities(margins[held_out]))
    return losses


def _log_loss(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return the log loss of each row, finite: probabilities keep off 0 and 1 by the precision of a float64."""
    least = np.finfo(np.float64).eps
    of_label = np.where(labels == 1, probabilities, 1 - probabilities)
    return -np.log(np.clip(of_label, least, 1 - least))


def _fitted(kind: Calibration, margins: np.ndarray, labels: np.ndarray) -> Calibrator | None:
    """Fit a method; None for no method, labels that are all the same, and margins that do not rise with the label."""
    if kind is Calibration.NONE or len(np.unique(labels)) < 2:
        return None
    fit = {Calibration.PLATT: _platt, Calibration.BETA: _beta, Calibration.ISOTONIC: _isotonic}[kind]
    return fit(margins, labels)


def _soft_targets(labels: np.ndarray) -> np.ndarray:
    """Return Platt's targets (1999), which keep a fit finite when the margins tell the labels apart."""
    ones = float(labels.sum())
    zeros = len(labels) - ones
    return np.where(labels == 1, (ones + 1) / (ones + 2), 1 / (zeros + 2))


def _platt(margins: np.ndarray, labels: np.ndarray) -> PlattCalibration | None:
    """Fit Platt's method with its soft targets."""
    # scikit-learn takes hard labels only: a soft target is a row with each label, weighted.
    target = _soft_targets(labels)
    model = LogisticRegression(C=np.inf, tol=1e-8, max_iter=1000)
    column = margins.astype(np.float64).reshape(-1, 1)
    both = np.repeat([1, 0], len(labels))
    model.fit(np.concatenate([column, column]), both, np.concatenate([target, 1 - target]))
    line = PlattCalibration(float(np.ravel(model.coef_)[0]), float(np.ravel(model.intercept_)[0]))
    return line if line.slope > _LEAST_SLOPE else None


def _beta(margins: np.ndarray, labels: np.ndarray) -> BetaCalibration | None:
    """Fit beta calibration with Platt's soft targets.

    An exponent that comes out negative is 0 and the others are fitted again, as in the paper. A weak prior holds the
    exponents near 1: where nearly all probabilities are low, the rows say next to nothing about `b`.
    """
    # With `b` near 1 by the prior alone, the curve would rise even where the model ranks backwards.
    if margins[labels == 1].mean() <= margins[labels == 0].mean():
        return None
    columns = np.stack([*beta_columns(margins), np.ones(len(margins))], axis=1)
    target = _soft_targets(labels)
    free = np.array([True, True, True])
    solution = _penalized_logistic(columns, target, free)
    if (solution[:2] < 0).any():
        free[:2] = solution[:2] >= 0
        solution = _penalized_logistic(columns, target, free)
    a, b, c = (float(value) for value in solution)
    return BetaCalibration(a, b, c) if min(a, b) >= 0 and a + b > _LEAST_SLOPE else None


def _penalized_logistic(columns: np.ndarray, target: np.ndarray, free: np.ndarray) -> np.ndarray:
    """Return the coefficients of a logistic regression by Newton's method, those that are not `free` at 0.

    The first two have the normal prior of `_PRIOR_SPREAD` around 1, so that the optimum is unique.
    """
    precision = np.array([1.0, 1.0, 0.0]) / _PRIOR_SPREAD**2
    prior = np.array([1.0, 1.0, 0.0])

    def loss(at: np.ndarray) -> float:
        log_odds = columns @ at
        return float(
            (np.logaddexp(0.0, log_odds) - target * log_odds).sum() + (precision * (at - prior) ** 2).sum() / 2
        )

    found = np.where(free, prior, 0.0)
    for _ in range(_NEWTON_STEPS):
        probability = log_odds_to_probability(columns @ found)
        gradient = (columns.T @ (probability - target) + precision * (found - prior))[free]
        weights = probability * (1 - probability)
        curvature = ((columns * weights[:, None]).T @ columns + np.diag(precision))[np.ix_(free, free)]
        step = np.zeros(3)
        step[free] = np.linalg.lstsq(curvature, gradient, rcond=None)[0]
        # Halved until the loss does not rise: far from the optimum a whole step may overshoot.
        before = loss(found)
        while loss(found - step) > before and np.abs(step).max() > 1e-10:
            step /= 2
        found = found - step
        if np.abs(step).max() < 1e-8:
            break
    return found


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
