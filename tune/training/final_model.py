"""The final model: the fitted booster, calibrated and exported to ONNX, with its threshold and its scores."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import xgboost

from data.schema.use_case import UseCase
from tune.dataset.encoded_examples import PreparedDataset
from tune.metrics.figures import best_threshold
from tune.training.calibration import Calibrator, fit_calibrator
from tune.training.onnx_export import OnnxScorer, to_onnx, verify_parity


class FinalModel(NamedTuple):
    """A booster with the calibrator and threshold chosen on the validation rows, and its scores."""

    booster: xgboost.Booster
    calibrator: Calibrator | None
    onnx: bytes
    threshold: float
    validation: np.ndarray
    """Probabilities on the validation rows, shape (n,)."""
    holdout: np.ndarray
    """Probabilities on the holdout rows, shape (n,)."""
    uncalibrated: np.ndarray
    """The booster's own probabilities on the holdout rows, shape (n,)."""


def complete(use_case: UseCase, prepared: PreparedDataset, booster: xgboost.Booster) -> FinalModel:
    """Calibrate on the validation rows, export, score, and choose the threshold on the validation rows.

    Scores are the ONNX model's own, so that the threshold and all figures are of what will serve.

    Raises:
        TrainingFailed: the model ranks no better than chance, so that there is nothing to calibrate.
        BundleError: the ONNX model and the booster differ.
    """
    validation, holdout = prepared.validation, prepared.holdout
    margins = booster.inplace_predict(validation.x, predict_type="margin")
    calibrator = fit_calibrator(use_case.calibration, margins, validation.y)
    onnx = to_onnx(booster, calibrator)
    verify_parity(booster, onnx, holdout.x, calibrator)
    scorer = OnnxScorer(onnx)
    scores = scorer.probabilities(validation.x)
    return FinalModel(
        booster,
        calibrator,
        onnx,
        best_threshold(validation.y, scores, use_case.decision),
        scores,
        scorer.probabilities(holdout.x),
        booster.inplace_predict(holdout.x),
    )
