"""The learning task: what training needs to know of a kind of target, one class a kind.

Arrays: labels are codes (uint8) or numbers (float32) of shape (n,); margins are a booster's, of shape (n,), of several
classes (n, classes); scores are what a model answers, float32 of shape (n, `Output.width`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
from sklearn.base import BaseEstimator

from data.schema.model_policy import Calibration, Decision
from data.schema.output import Output
from data.schema.search import Metric
from data.schema.task import Binary, Multiclass, Ranking, Regression
from tune.metrics.figures import Difference, Evaluation, intervals
from tune.tasks.calibration_curves import Calibrator
from tune.tasks.link import Link

Kind = TypeVar("Kind", Binary, Multiclass, Regression, Ranking)
Judge = Callable[[np.ndarray], float]
"""A figure as a function of how often each row counts, shape (n,)."""


class Scored(NamedTuple):
    """A model's scores of n rows, float32 of shape (n, width), and its output, which reads them."""

    scores: np.ndarray
    output: Output
    lists: np.ndarray | None = None
    """Of a ranking the list of each row, whole numbers of shape (n,)."""

    def take(self, rows: np.ndarray) -> Scored:
        """The scores of some rows."""
        return self._replace(scores=self.scores[rows], lists=None if self.lists is None else self.lists[rows])


class FittedOutput(NamedTuple):
    """What is fitted behind the trees, by rows that the fits had not learned from."""

    calibrator: Calibrator | None
    output: Output


class RoundFigures(NamedTuple):
    """What XGBoost computes after each round."""

    objective: dict[str, Any]
    """Parameters: the objective and what belongs to it."""
    loss: str | None
    """The loss by which a fit stops, as XGBoost's evaluation names it; None for one minus the search's metric."""
    metric: str | None
    """The search's metric, likewise; None where XGBoost lacks it."""


@dataclass(frozen=True)
class LearningTask(ABC, Generic[Kind]):
    """One kind of target with what a use case declares of it. Can be pickled."""

    task: Kind
    metric: Metric
    """What the search is judged by."""
    decision: Decision
    calibration: Calibration

    headline: tuple[str, ...] = ()
    """Names of the figures that are shown first."""
    shown: tuple[str, ...] = ()
    """Names of the figures on a model card."""
    of_scores: tuple[str, ...] = ()
    """Of these, the figures that depend on the scores alone, not on a threshold or an interval."""
    constant: str = ""
    """Name of the baseline that answers the same for every row."""
    linear: str = ""
    """Name of the linear baseline."""

    @property
    @abstractmethod
    def rounds(self) -> RoundFigures:
        """What XGBoost computes after each round."""

    @abstractmethod
    def round_metric(self, labels: np.ndarray, margins: np.ndarray, lists: np.ndarray | None) -> float:
        """Return the search's metric of margins, where XGBoost lacks it; `lists` as `Scored.lists`."""

    @property
    @abstractmethod
    def link(self) -> Link:
        """How margins become predictions."""

    @abstractmethod
    def fit(self, margins: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> FittedOutput:
        """Fit what stands behind the trees, by margins out of fold; `folds` has the fold of each row.

        Raises:
            TrainingFailed: a calibration is declared, and there is nothing to calibrate.
        """

    @abstractmethod
    def output_of(self, labels: np.ndarray, scores: np.ndarray) -> Output:
        """Return the output that suits scores best, of rows that the model has not learned from."""

    @abstractmethod
    def metrics(self, labels: np.ndarray, scored: Scored) -> dict[str, float]:
        """Return every figure by name."""

    @abstractmethod
    def resampled(self, labels: np.ndarray, scored: Scored) -> Callable[[np.ndarray], Mapping[str, float]]:
        """Return the figures that have intervals, by name, as a function of how often each row counts."""

    @abstractmethod
    def judge(self, labels: np.ndarray, scored: Scored, metric: Metric) -> Judge:
        """Return a metric as a function of how often each row counts."""

    @abstractmethod
    def excess_of_chance(self, labels: np.ndarray, scored: Scored) -> float:
        """Return how many standard errors the model is above one whose scores know nothing of the labels."""

    @abstractmethod
    def constant_scores(self, labels: np.ndarray, rows: int) -> Scored:
        """Return the scores of the constant baseline for `rows` rows."""

    @abstractmethod
    def linear_model(self) -> BaseEstimator:
        """Return the last step of the linear baseline, not fitted."""

    @abstractmethod
    def linear_scores(self, model: Any, x: np.ndarray) -> np.ndarray:
        """Return the scores of a fitted linear baseline for rows x, as (n, width)."""

    @abstractmethod
    def views(self, labels: np.ndarray) -> Iterator[np.ndarray]:
        """Yield the labels as one or more columns of 0 and 1, uint8 of shape (n,), by which features are ranked."""

    @abstractmethod
    def observed(self, labels: np.ndarray, scored: Scored) -> tuple[float, float]:
        """Return what was seen of some rows and what the scores say of them: equal where a model is calibrated."""

    @abstractmethod
    def slice_extras(self, labels: np.ndarray, scored: Scored) -> dict[str, float]:
        """Return the figures of a slice that stand beside its metric, by name."""

    @abstractmethod
    def too_few(self, labels: np.ndarray) -> bool:
        """Return whether rows are too few of a label for a figure of them."""

    @abstractmethod
    def describe(self, labels: np.ndarray) -> str:
        """Return some labels in words: shares, or range and mean."""

    def looked_up(
        self, table: pa.Table, learned: np.ndarray, labels: np.ndarray, judged: np.ndarray
    ) -> dict[str, Scored]:
        """Return the scores of further baselines by name, which look rows up in others of their table.

        Args:
            table: raw rows.
            learned: numbers of the n rows that may be looked at.
            labels: their labels, of shape (n,).
            judged: numbers of the rows that are scored.
        """
        return {}

    def scores_of(self, margins: np.ndarray, calibrator: Calibrator | None = None) -> np.ndarray:
        """Return the scores of margins, with or without calibration, float32 of shape (n, width)."""
        found = self.link.predicted(margins) if calibrator is None else calibrator.probabilities(margins)
        return found.astype(np.float32).reshape(len(margins), -1)

    def evaluate(
        self, labels: np.ndarray, scored: Scored, confidence: float = 0.95, entities: np.ndarray | None = None
    ) -> Evaluation:
        """Return the figures with bootstrap intervals; `entities` as for `intervals`."""
        bounds = intervals(self.resampled(labels, scored), len(labels), confidence, entities=entities)
        return Evaluation(self.metrics(labels, scored), bounds)

    def differences(
        self,
        labels: np.ndarray,
        mine: Scored,
        others: Mapping[str, Scored],
        metric: Metric | None = None,
        confidence: float = 0.95,
        entities: np.ndarray | None = None,
    ) -> dict[str, Difference]:
        """Return the paired difference of a metric, `mine` minus each other, with bootstrap intervals.

        All models are scored on the same resamples, so that what makes one easy for one model makes it easy for the
        other (Efron and Tibshirani 1993, chapter 13: percentile intervals).

        Args:
            labels: of the rows.
            mine: the model.
            others: other models by name.
            metric: default: the search's.
            confidence: coverage of the intervals.
            entities: as for `intervals`.
        """
        wanted = metric or self.metric
        own = self.judge(labels, mine, wanted)
        judges = {name: self.judge(labels, other, wanted) for name, other in others.items()}

        def found(counts: np.ndarray) -> dict[str, float]:
            value = own(counts)
            return {name: value - judge(counts) for name, judge in judges.items()}

        whole = found(np.ones(len(labels)))
        bounds = intervals(found, len(labels), confidence, entities=entities)
        return {name: Difference(whole[name], *bounds[name]) for name in others}
