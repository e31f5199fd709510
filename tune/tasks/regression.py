"""Numbers: the declared objective, and an interval by conformal prediction."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.linear_model import LinearRegression, QuantileRegressor, TweedieRegressor

from data.schema.objective import Objective
from data.schema.outputs.regression_output import RegressionOutput
from data.schema.search import Metric
from data.schema.task import Regression
from tune.metrics.number_figures import Loss, NumberFigures, excess_of_chance
from tune.tasks.conformal import conformal_interval
from tune.tasks.learning_task import FittedOutput, Judge, LearningTask, RoundFigures, Scored
from tune.tasks.link import Link, link_of

_OBJECTIVES = {
    Objective.SQUARED: ("reg:squarederror", "rmse"),
    Objective.ABSOLUTE: ("reg:absoluteerror", "mae"),
    Objective.QUANTILE: ("reg:quantileerror", "quantile"),
    Objective.POISSON: ("count:poisson", "poisson-nloglik"),
    Objective.TWEEDIE: ("reg:tweedie", "tweedie-nloglik"),
}
"""XGBoost's objective, and its own loss of it."""
_EDGES = 29
_LINEAR_PENALTY = 1e-3


@dataclass(frozen=True)
class RegressionLearning(LearningTask[Regression]):
    """As `LearningTask`; scores are numbers, of shape (n, 1)."""

    headline: tuple[str, ...] = ("r2", "rmse", "mae")
    shown: tuple[str, ...] = ("r2", "rmse", "mae", "bias", "coverage", "interval_width")
    of_scores: tuple[str, ...] = ("r2", "rmse", "mae", "bias")
    constant: str = "always the same"
    linear: str = "linear regression"

    @property
    def rounds(self) -> RoundFigures:
        """The objective's own loss."""
        objective, loss = _OBJECTIVES[self.task.objective]
        params: dict[str, Any] = {"objective": objective}
        if self.task.objective is Objective.QUANTILE:
            params["quantile_alpha"] = self.task.quantile
        if self.task.objective is Objective.TWEEDIE:
            params["tweedie_variance_power"] = self.task.tweedie_power
            loss = f"{loss}@{self.task.tweedie_power:g}"
        return RoundFigures({**params, "eval_metric": [loss]}, loss, None)

    def round_metric(self, labels: np.ndarray, margins: np.ndarray, lists: np.ndarray | None = None) -> float:
        """The metric of the predictions."""
        return self._figures(labels, self.link.predicted(margins)).explained(self._loss(self.metric))

    @property
    def link(self) -> Link:
        """Identity, or the logarithm's inverse for counts and amounts."""
        return link_of(_OBJECTIVES[self.task.objective][0])

    def fit(self, margins: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> FittedOutput:
        """As `LearningTask.fit`: the interval."""
        return FittedOutput(None, self.output_of(labels, self.scores_of(margins)))

    def output_of(self, labels: np.ndarray, scores: np.ndarray) -> RegressionOutput:
        """The interval by the errors of rows that the fits had not learned from."""
        interval = conformal_interval(labels, scores[:, 0], self.task.interval, self.task.least_label)
        return RegressionOutput(interval=interval, quantiles=score_edges(labels))

    def metrics(self, labels: np.ndarray, scored: Scored) -> dict[str, float]:
        """R2, RMSE, MAE, bias, the interval's coverage and width, and the other metrics of the objective."""
        return {**self.resampled(labels, scored)(np.ones(len(labels)))}

    def resampled(self, labels: np.ndarray, scored: Scored) -> Callable[[np.ndarray], Mapping[str, float]]:
        """All of them."""
        found = self._figures(labels, scored.scores[:, 0])
        ends = scored.output.columns(scored.scores)
        low, high = ends["interval_low"], ends["interval_high"]
        inside = ((labels >= low) & (labels <= high)).astype(np.float64)
        losses = {metric.value: self._loss(metric) for metric in self.task.metrics}

        def figures(counts: np.ndarray) -> dict[str, float]:
            rows = counts.sum()
            explained = {name: found.explained(loss, counts) for name, loss in losses.items()}
            return {
                **explained,
                **found.errors(counts),
                "coverage": float(counts @ inside / rows),
                "interval_width": float(counts @ (high - low) / rows),
            }

        return figures

    def judge(self, labels: np.ndarray, scored: Scored, metric: Metric) -> Judge:
        """The share of the metric's loss that is explained."""
        found, loss = self._figures(labels, scored.scores[:, 0]), self._loss(metric)
        return lambda counts: found.explained(loss, counts)

    def excess_of_chance(self, labels: np.ndarray, scored: Scored) -> float:
        """As `tune.metrics.number_figures.excess_of_chance`."""
        return excess_of_chance(labels, scored.scores[:, 0])

    def constant_scores(self, labels: np.ndarray, rows: int) -> Scored:
        """What is best by the objective: the mean, the median or the quantile."""
        value = self._loss(self.task.metric).constant(labels)
        output = self.output_of(labels, np.full((len(labels), 1), value, np.float32))
        return Scored(np.full((rows, 1), value, np.float32), output)

    def linear_model(self) -> Any:
        """The linear model of the same objective."""
        if self.task.objective is Objective.SQUARED:
            return LinearRegression()
        if self.task.objective in (Objective.ABSOLUTE, Objective.QUANTILE):
            return QuantileRegressor(quantile=self._loss(self.task.metric).level, alpha=_LINEAR_PENALTY)
        return TweedieRegressor(power=self.task.power, link="log", alpha=_LINEAR_PENALTY, max_iter=1000)

    def linear_scores(self, model: Any, x: np.ndarray) -> np.ndarray:
        """Its prediction."""
        return model.predict(x).astype(np.float32).reshape(-1, 1)

    def views(self, labels: np.ndarray) -> Iterator[np.ndarray]:
        """Whether a number is above the median."""
        yield (labels > np.median(labels)).astype(np.uint8)

    def observed(self, labels: np.ndarray, scored: Scored) -> tuple[float, float]:
        """The mean of the labels, and that of the predictions."""
        return float(labels.mean(dtype=np.float64)), float(scored.scores.mean(dtype=np.float64))

    def slice_extras(self, labels: np.ndarray, scored: Scored) -> dict[str, float]:
        """The mean absolute error, and the interval's coverage."""
        found = self.metrics(labels, scored)
        return {"mae": found["mae"], "coverage": found["coverage"]}

    def too_few(self, labels: np.ndarray) -> bool:
        """All the same."""
        return len(labels) < 2 or labels.min() == labels.max()

    def describe(self, labels: np.ndarray) -> str:
        """Mean, and the middle nine tenths."""
        if not len(labels):
            return "none"
        low, high = np.quantile(labels, (0.05, 0.95))
        return f"mean {labels.mean(dtype=np.float64):.5g}, nine tenths from {low:.5g} to {high:.5g}"

    def _figures(self, labels: np.ndarray, predicted: np.ndarray) -> NumberFigures:
        return NumberFigures(labels, predicted)

    def _loss(self, metric: Metric) -> Loss:
        task = self.task
        if metric is Metric.R2:
            return Loss(0.0)
        if metric is Metric.D2_TWEEDIE:
            return Loss(task.power)
        return Loss(None, 0.5 if metric is Metric.D2_ABSOLUTE_ERROR else task.quantile)


def score_edges(values: np.ndarray) -> tuple[float, ...]:
    """Return 29 quantiles of numbers, ascending and different: equal ones are moved apart by the least step."""
    edges = np.quantile(values.astype(np.float64), np.arange(1, _EDGES + 1) / (_EDGES + 1))
    for at in range(1, len(edges)):
        edges[at] = max(edges[at], np.nextafter(edges[at - 1], np.inf))
    return tuple(map(float, edges))
