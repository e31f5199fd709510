"""Two labels: logistic loss, calibrated probabilities, and a decision by threshold."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression

from data.schema.outputs.binary_output import BinaryOutput
from data.schema.search import Metric
from data.schema.task import Binary, shown_label
from tune.metrics import figures
from tune.metrics.ranking import Ranking
from tune.tasks.calibration import fit_calibrator
from tune.tasks.learning_task import FittedOutput, Judge, LearningTask, RoundFigures, Scored
from tune.tasks.link import Link, link_of

LEAST_OF_A_LABEL = 5
"""Fewest rows of a label for a figure of a slice."""
LOGISTIC_STEPS = 300
_NATIVE = {Metric.AUC: "auc", Metric.PR_AUC: "aucpr"}


@dataclass(frozen=True)
class BinaryLearning(LearningTask[Binary]):
    """As `LearningTask`; scores are probabilities of the positive label, of shape (n, 1)."""

    headline: tuple[str, ...] = ("auc", "pr_auc", "f1")
    shown: tuple[str, ...] = ("auc", "pr_auc", "f1", "precision", "recall", "brier", "ece")
    of_scores: tuple[str, ...] = ("ece", "brier", "log_loss", "auc", "pr_auc")
    constant: str = "always the majority"
    linear: str = "logistic regression"

    @property
    def rounds(self) -> RoundFigures:
        """Log loss, and the metric unless it is F1, which XGBoost lacks."""
        native = _NATIVE.get(self.metric)
        evaluated = ["logloss", native] if native else ["logloss"]
        return RoundFigures({"objective": "binary:logistic", "eval_metric": evaluated}, "logloss", native)

    def round_metric(self, labels: np.ndarray, margins: np.ndarray, lists: np.ndarray | None = None) -> float:
        """The best F1 of any threshold; margins rank rows as probabilities do."""
        return Ranking(labels, margins).best_f1()

    @property
    def link(self) -> Link:
        """Logistic."""
        return link_of("binary:logistic")

    def fit(self, margins: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> FittedOutput:
        """As `LearningTask.fit`: calibration, then the threshold."""
        calibrator = fit_calibrator(self.calibration, margins, labels, folds)
        return FittedOutput(calibrator, self.output_of(labels, self.scores_of(margins, calibrator)))

    def output_of(self, labels: np.ndarray, scores: np.ndarray) -> BinaryOutput:
        """The threshold that is best by `decision`."""
        threshold = figures.best_threshold(labels, scores[:, 0], self.decision)
        return BinaryOutput(classes=self.task.labels, threshold=threshold)

    def metrics(self, labels: np.ndarray, scored: Scored) -> dict[str, float]:
        """As `tune.metrics.figures.metrics`."""
        return figures.metrics(labels, scored.scores[:, 0], _threshold(scored), self.decision.cost)

    def resampled(self, labels: np.ndarray, scored: Scored) -> Callable[[np.ndarray], Mapping[str, float]]:
        """All figures but log loss and ECE."""
        return figures.resampled(labels, scored.scores[:, 0], _threshold(scored), self.decision.cost)

    def judge(self, labels: np.ndarray, scored: Scored, metric: Metric) -> Judge:
        """F1 at the threshold, the others over all."""
        ranking, threshold = Ranking(labels, scored.scores[:, 0]), _threshold(scored)
        return lambda counts: figures.value(ranking, metric, threshold, counts)

    def excess_of_chance(self, labels: np.ndarray, scored: Scored) -> float:
        """How many standard errors the AUC lies above 0.5.

        That of n0 and n1 rows is sqrt((n0 + n1 + 1) / (12 n0 n1)) (Mann and Whitney 1947).
        """
        ones = float(labels.sum())
        zeros = len(labels) - ones
        error = math.sqrt((zeros + ones + 1) / (12 * zeros * ones))
        return (Ranking(labels, scored.scores[:, 0]).auc() - 0.5) / error

    def constant_scores(self, labels: np.ndarray, rows: int) -> Scored:
        """The share of the positive label, at the threshold 0.5."""
        output = BinaryOutput(classes=self.task.labels, threshold=0.5)
        return Scored(np.full((rows, 1), labels.mean(), np.float32), output)

    def linear_model(self) -> LogisticRegression:
        """Logistic regression."""
        return LogisticRegression(max_iter=LOGISTIC_STEPS)

    def linear_scores(self, model: Any, x: np.ndarray) -> np.ndarray:
        """The probability of the positive label."""
        return model.predict_proba(x)[:, 1:].astype(np.float32)

    def views(self, labels: np.ndarray) -> Iterator[np.ndarray]:
        """The labels themselves."""
        yield labels

    def observed(self, labels: np.ndarray, scored: Scored) -> tuple[float, float]:
        """The share of the positive label, and the mean probability."""
        return float(labels.mean()), float(scored.scores.mean())

    def slice_extras(self, labels: np.ndarray, scored: Scored) -> dict[str, float]:
        """Precision and recall."""
        chosen = scored.scores[:, 0].astype(np.float64) >= _threshold(scored)
        hits = float(labels[chosen].sum())
        return {"precision": hits / max(float(chosen.sum()), 1.0), "recall": hits / max(float(labels.sum()), 1.0)}

    def too_few(self, labels: np.ndarray) -> bool:
        """Fewer than `LEAST_OF_A_LABEL` of either."""
        ones = int(labels.sum())
        return min(ones, len(labels) - ones) < LEAST_OF_A_LABEL

    def describe(self, labels: np.ndarray) -> str:
        """The share of the positive label."""
        share = labels.mean() if len(labels) else 0.0
        return f"{int(labels.sum()):,} ({share:.2%}) with label {shown_label(self.task.labels[1])}"


def _threshold(scored: Scored) -> float:
    output = scored.output
    assert isinstance(output, BinaryOutput), "scores of two labels have a threshold"
    return output.threshold
