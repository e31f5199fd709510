"""The fitted model as it will answer: calibrated, exported, with its threshold and its scores."""

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
    """A booster with all that was chosen on the validation rows."""

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
    """Calibrate and choose the threshold on the validation rows, export, and score.

    Raises:
        TrainingFailed: there is nothing to calibrate.
        BundleError: ONNX and booster differ.
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
