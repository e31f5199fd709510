"""The final model: what serves has learned from every row, what its figures are of from all but the holdout.

What stands behind the trees comes from scores out of fold: of each row by a fit that did not learn from it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import xgboost

from data.schema.output import Output
from data.schema.use_case import UseCase
from tune.dataset.encoded_examples import PreparedDataset
from tune.tasks.calibration_curves import Calibrator
from tune.tasks.kinds import learning_task
from tune.tasks.learning_task import Scored
from tune.training.final_fits import FinalFits
from tune.training.onnx_export import OnnxScorer, mean_margins, to_onnx, verify_parity


class OutOfFold(NamedTuple):
    """Scores of the judged development rows, each by the fit of its fold, which did not learn from it."""

    margins: np.ndarray
    """Float32 of shape (n,), of several classes (n, classes)."""
    labels: np.ndarray
    """Codes or numbers of shape (n,)."""
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
    output: Output
    """How scores are read: the threshold, the classes or the interval."""
    out_of_fold: np.ndarray
    """Scores of the judged development rows, float32 of shape (n, width)."""
    judged: np.ndarray
    """The labels of those rows."""
    holdout: np.ndarray
    """Scores of the holdout rows by the measured model, float32 of shape (n, width)."""
    uncalibrated: np.ndarray
    """The same without calibration."""
    judged_lists: np.ndarray | None = None
    """Of a ranking the lists of the judged development rows, as `Scored.lists`."""
    holdout_lists: np.ndarray | None = None
    """The same of the holdout rows."""

    def scored(self, scores: np.ndarray) -> Scored:
        """Scores of the holdout rows, to be read as this model's."""
        return Scored(scores, self.output, self.holdout_lists)

    @property
    def scored_out_of_fold(self) -> Scored:
        """The scores of the judged development rows."""
        return Scored(self.out_of_fold, self.output, self.judged_lists)


def complete(use_case: UseCase, prepared: PreparedDataset, fits: FinalFits) -> FinalModel:
    """Fit, calibrate, decide, export, and score the holdout.

    The holdout is scored by the measured model's ONNX graph, so that figures are of what an answer is computed by.
    Scores out of fold are the boosters' own, calibrated in float64: ONNX has them to float32's precision.

    Raises:
        TrainingFailed: a fit failed; or calibration is declared, and the model ranks no better than chance.
        BundleError: an ONNX model and its booster differ.
    """
    learning, holdout = learning_task(use_case), prepared.holdout
    found = out_of_fold(prepared, fits.of_folds())
    calibrator, output = learning.fit(found.margins, found.labels, found.folds)
    measured, booster = fits.of_development(), fits.of_all()
    exported = [_exported(each, calibrator, prepared) for each in (measured, booster)]
    return FinalModel(
        booster,
        calibrator,
        exported[1],
        exported[0],
        output,
        learning.scores_of(found.margins, calibrator),
        found.labels,
        OnnxScorer(exported[0]).scores(holdout.x),
        learning.scores_of(mean_margins([measured], holdout.x)),
        None if prepared.development.lists is None else prepared.development.lists[prepared.folds.judged],
        holdout.lists,
    )


def out_of_fold(prepared: PreparedDataset, boosters: list[xgboost.Booster]) -> OutOfFold:
    """Score the judged development rows by the boosters of their folds."""
    development, folds = prepared.development, prepared.folds
    judged = [rows.judged for rows in folds.each()]
    found = [mean_margins([booster], development.x[rows]) for rows, booster in zip(judged, boosters, strict=True)]
    order = np.argsort(np.concatenate(judged), kind="stable")
    margins = np.concatenate(found)[order].astype(np.float32)
    return OutOfFold(margins, development.y[folds.judged], folds.of[folds.judged])


def _exported(booster: xgboost.Booster, calibrator: Calibrator | None, prepared: PreparedDataset) -> bytes:
    onnx = to_onnx([booster], calibrator)
    verify_parity([booster], onnx, prepared.holdout.x, calibrator)
    return onnx
