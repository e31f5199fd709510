"""Three or more classes: softmax, temperature scaling, and the likeliest class."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression

from data.schema.outputs.multiclass_output import MulticlassOutput
from data.schema.search import Metric
from data.schema.task import Multiclass, shown_label
from tune.metrics.class_figures import ClassFigures, excess_of_chance
from tune.tasks.binary import LEAST_OF_A_LABEL, LOGISTIC_STEPS
from tune.tasks.calibration import fit_temperature
from tune.tasks.learning_task import FittedOutput, Judge, LearningTask, RoundFigures, Scored
from tune.tasks.link import Link, link_of

_OBJECTIVE = "multi:softprob"
_NAMED = 5


@dataclass(frozen=True)
class MulticlassLearning(LearningTask[Multiclass]):
    """As `LearningTask`; scores are probabilities of the classes, of shape (n, classes)."""

    headline: tuple[str, ...] = ("accuracy", "macro_f1", "log_loss")
    shown: tuple[str, ...] = ("accuracy", "macro_f1", "auc_ovr", "log_loss", "brier", "ece")
    of_scores: tuple[str, ...] = ("ece", "brier", "log_loss", "accuracy", "macro_f1", "auc_ovr")
    constant: str = "always the majority"
    linear: str = "logistic regression"

    @property
    def rounds(self) -> RoundFigures:
        """Log loss."""
        objective = {"objective": _OBJECTIVE, "num_class": len(self.task.classes), "eval_metric": ["mlogloss"]}
        return RoundFigures(objective, "mlogloss", None)

    def round_metric(self, labels: np.ndarray, margins: np.ndarray, lists: np.ndarray | None = None) -> float:
        """The metric of the softmax of margins."""
        return self._figures(labels, self.scores_of(margins)).value(self.metric)

    @property
    def link(self) -> Link:
        """Softmax."""
        return link_of(_OBJECTIVE)

    def fit(self, margins: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> FittedOutput:
        """As `LearningTask.fit`: the temperature."""
        calibrator = fit_temperature(self.calibration, margins, labels)
        return FittedOutput(calibrator, self.output_of(labels, self.scores_of(margins, calibrator)))

    def output_of(self, labels: np.ndarray, scores: np.ndarray) -> MulticlassOutput:
        """The classes, and which of them is the most common."""
        common = int(np.bincount(labels, minlength=len(self.task.classes)).argmax())
        return MulticlassOutput(classes=self.task.classes, common=common)

    def metrics(self, labels: np.ndarray, scored: Scored) -> dict[str, float]:
        """As `ClassFigures.all`."""
        return self._figures(labels, scored.scores).all()

    def resampled(self, labels: np.ndarray, scored: Scored) -> Callable[[np.ndarray], Mapping[str, float]]:
        """As `ClassFigures.resampled`."""
        return self._figures(labels, scored.scores).resampled

    def judge(self, labels: np.ndarray, scored: Scored, metric: Metric) -> Judge:
        """The metric of the likeliest class, or of the probabilities."""
        found = self._figures(labels, scored.scores)
        return lambda counts: found.value(metric, counts)

    def excess_of_chance(self, labels: np.ndarray, scored: Scored) -> float:
        """As `tune.metrics.class_figures.excess_of_chance`."""
        return excess_of_chance(labels, scored.scores)

    def constant_scores(self, labels: np.ndarray, rows: int) -> Scored:
        """The shares of the classes."""
        shares = np.bincount(labels, minlength=len(self.task.classes)) / max(len(labels), 1)
        return Scored(np.tile(shares.astype(np.float32), (rows, 1)), self.output_of(labels, shares))

    def linear_model(self) -> LogisticRegression:
        """Multinomial logistic regression."""
        return LogisticRegression(max_iter=LOGISTIC_STEPS)

    def linear_scores(self, model: Any, x: np.ndarray) -> np.ndarray:
        """The probability of each class; 0 of one that no row had."""
        scores = np.zeros((len(x), len(self.task.classes)), np.float32)
        scores[:, model.classes_.astype(np.int64)] = model.predict_proba(x)
        return scores

    def views(self, labels: np.ndarray) -> Iterator[np.ndarray]:
        """Each class against the rest."""
        for code in range(len(self.task.classes)):
            yield (labels == code).astype(np.uint8)

    def observed(self, labels: np.ndarray, scored: Scored) -> tuple[float, float]:
        """The share of right answers, and the mean probability of what is answered."""
        likeliest = scored.scores.argmax(axis=1)
        return float((likeliest == labels).mean()), float(scored.scores.max(axis=1).mean())

    def slice_extras(self, labels: np.ndarray, scored: Scored) -> dict[str, float]:
        """Accuracy."""
        return {"accuracy": self._figures(labels, scored.scores).value(Metric.ACCURACY)}

    def too_few(self, labels: np.ndarray) -> bool:
        """Fewer than `LEAST_OF_A_LABEL` beside the most common one."""
        counts = np.bincount(labels, minlength=1)
        return len(labels) - int(counts.max()) < LEAST_OF_A_LABEL

    def describe(self, labels: np.ndarray) -> str:
        """The share of each class, the most common first."""
        counts = np.bincount(labels, minlength=len(self.task.classes))
        order = np.argsort(-counts, kind="stable")
        named = [f"{shown_label(self.task.classes[at])} {counts[at] / max(len(labels), 1):.1%}" for at in order]
        more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
        return f"{len(named)} classes: {', '.join(named[:_NAMED])}{more}"

    def _figures(self, labels: np.ndarray, scores: np.ndarray) -> ClassFigures:
        return ClassFigures(labels, scores)
