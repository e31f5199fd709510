"""The final model: what serves has learned from every row, what its figures are of from all but the holdout.

Calibration and threshold come from scores out of fold: of each row by a fit that did not learn from it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import xgboost

from data.schema.use_case import UseCase
from tune.dataset.encoded_examples import PreparedDataset
from tune.metrics.figures import best_threshold
from tune.training.calibration import fit_calibrator
from tune.training.calibration_curves import Calibrator, log_odds_to_probability
from tune.training.final_fits import FinalFits
from tune.training.onnx_export import OnnxScorer, mean_margins, to_onnx, verify_parity


class OutOfFold(NamedTuple):
    """Scores of the judged development rows, each by the fit of its fold, which did not learn from it."""

    margins: np.ndarray
    """Log-odds, float32 of shape (n,)."""
    labels: np.ndarray
    """0 and 1, uint8 of shape (n,)."""
    folds: np.ndarray
    """The fold of each row, int8 of shape (n,)."""


class FinalModel(NamedTuple):
    """The model that serves, the one that was measured, and the scores of the latter."""

    booster: xgboost.Booster
    """Learned from every row."""
    calibrator: Calibrator | None
    onnx: bytes
    """The booster with its calibration: what serves."""
    measured: bytes
    """The same parameters and calibration, learned from all rows but the holdout: what the figures are of."""
    threshold: float
    out_of_fold: np.ndarray
    """Probabilities of the judged development rows, float32 of shape (n,)."""
    judged: np.ndarray
    """The labels of those rows."""
    holdout: np.ndarray
    """Probabilities of the holdout rows by the measured model, shape (n,)."""
    uncalibrated: np.ndarray
    """The same without calibration."""


def complete(use_case: UseCase, prepared: PreparedDataset, fits: FinalFits) -> FinalModel:
    """Fit, calibrate, choose the threshold, export, and score the holdout.

    The holdout is scored by the measured model's ONNX graph, so that figures are of what an answer is computed by.
    Scores out of fold are the boosters' own, calibrated in float64: ONNX has them to float32's precision.

    Raises:
        TrainingFailed: a fit failed; or calibration is declared, and the model ranks no better than chance.
        BundleError: an ONNX model and its booster differ.
    """
    holdout = prepared.holdout
    found = out_of_fold(prepared, fits.of_folds())
    calibrator = fit_calibrator(use_case.calibration, found.margins, found.labels, found.folds)
    probabilities = _probabilities(found.margins, calibrator)
    measured, booster = fits.of_development(), fits.of_all()
    exported = [_exported(each, calibrator, prepared) for each in (measured, booster)]
    return FinalModel(
        booster,
        calibrator,
        exported[1],
        exported[0],
        best_threshold(found.labels, probabilities, use_case.decision),
        probabilities,
        found.labels,
        OnnxScorer(exported[0]).probabilities(holdout.x),
        log_odds_to_probability(mean_margins([measured], holdout.x)).astype(np.float32),
    )


def out_of_fold(prepared: PreparedDataset, boosters: list[xgboost.Booster]) -> OutOfFold:
    """Score the judged development rows by the boosters of their folds."""
    development, folds = prepared.development, prepared.folds
    scores = np.full(development.rows, np.nan, np.float32)
    for rows, booster in zip(folds.each(), boosters, strict=True):
        scores[rows.judged] = mean_margins([booster], development.x[rows.judged])
    return OutOfFold(scores[folds.judged], development.y[folds.judged], folds.of[folds.judged])


def _exported(booster: xgboost.Booster, calibrator: Calibrator | None, prepared: PreparedDataset) -> bytes:
    onnx = to_onnx([booster], calibrator)
    verify_parity([booster], onnx, prepared.holdout.x, calibrator)
    return onnx


def _probabilities(scores: np.ndarray, calibrator: Calibrator | None) -> np.ndarray:
    probabilities = log_odds_to_probability if calibrator is None else calibrator.probabilities
    return probabilities(scores).astype(np.float32)
