"""The report on a model of numbers: predictions beside labels, residuals, and the interval's coverage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from data.schema.outputs.regression_output import RegressionOutput
from data.schema.prediction_interval import PredictionInterval
from data.schema.use_case import UseCase
from tune.evaluation.holdout_evaluation import HoldoutEvaluation
from tune.evaluation.kind_report import KindReport
from tune.evaluation.plot_style import BLUE, GREY, ORANGE, RED, canvas, legend_below
from tune.tasks.learning_task import Scored
from tune.training.final_model import FinalModel

_SHOWN = 5_000
"""Most rows of a scatter plot, evenly taken."""
_TENTHS = 10
_MIDDLE = (0.005, 0.995)
"""Quantiles of the labels between which the axes run: a few huge ones would leave nothing to see."""


class RegressionReport(KindReport):
    """As `KindReport`."""

    answers = "A prediction of the label, with an interval."
    observed = "mean of the label"
    predicted = "mean prediction"

    def rate(self, value: float) -> str:
        """A number."""
        return f"{value:.4g}"

    def plots(self, folder: Path, labels: np.ndarray, model: FinalModel) -> None:
        """Labels by prediction, residuals, and the interval's coverage."""
        _scatter(folder / "predictions.png", labels, model)
        _coverage(folder / "interval_coverage.png", labels, model)

    def compare(self, axes: Axes, labels: np.ndarray, sides: Mapping[str, Scored], colors: Sequence[str]) -> None:
        """The distributions of the absolute errors."""
        for (name, scored), color in zip(sides.items(), colors, strict=True):
            errors = np.sort(np.abs(scored.scores[:, 0].astype(np.float64) - labels))
            shares = np.arange(1, len(errors) + 1) / len(errors)
            axes.plot(errors, shares, color=color, label=f"{name}, median {np.median(errors):.4g}", alpha=0.85)
            axes.set_xlim(0, max(axes.get_xlim()[1] if axes.lines[1:] else 0, np.quantile(errors, _MIDDLE[1])))
        axes.set(xlabel="absolute error", ylabel="share of the rows with less")
        axes.set(title=f"On the same {len(labels):,} holdout rows")
        legend_below(axes)

    def decision(self, use_case: UseCase, model: FinalModel, figures: HoldoutEvaluation) -> str:
        """The interval, and how often it holds the true value."""
        metrics, seen = figures.holdout.metrics, figures.holdout.intervals["coverage"]
        interval = _interval(model)
        lowest, low, high, highest = interval.offsets
        return (
            f"## Interval\n\nThe answer's interval begins {lowest:+.4g} to {low:+.4g} from the prediction and ends "
            f"{high:+.4g} to {highest:+.4g} from it, by the errors out of fold of rows with like predictions "
            f"(conformal prediction). It is to hold the true value of {interval.coverage:.0%} of the rows; on the "
            f"holdout it holds {metrics['coverage']:.1%} (95 % interval {seen.low:.1%} to {seen.high:.1%}), with a "
            f"mean width of {metrics['interval_width']:.4g}. Rows whose errors are larger for another reason than the "
            "prediction are "
            "held less often; slices and the coverage plot show where."
        )

    def calibration(self, model: FinalModel, figures: HoldoutEvaluation, names: Sequence[str]) -> str:
        """Nothing: there are no probabilities."""
        return ""

    def limits(self, labels: np.ndarray, model: FinalModel) -> list[str]:
        """Trees do not extrapolate."""
        low, high = float(labels.min()), float(labels.max())
        return [
            f"The holdout's labels lie between {low:.5g} and {high:.5g}; trees do not extrapolate beyond what they "
            "learned from."
        ]


def _interval(model: FinalModel) -> PredictionInterval:
    assert isinstance(model.output, RegressionOutput), "a model of numbers answers with an interval"
    return model.output.interval


def _scatter(path: Path, labels: np.ndarray, model: FinalModel) -> None:
    step = max(len(labels) // _SHOWN, 1)
    true, predicted = labels[::step].astype(np.float64), model.holdout[::step, 0].astype(np.float64)
    figure, (left, right) = canvas(11, 5, 2)
    low, high = np.quantile(np.concatenate([true, predicted]), _MIDDLE)
    line = np.linspace(low, high, 200)
    left.plot(predicted, true, ".", color=BLUE, alpha=0.25, markersize=4, label="row of the holdout")
    left.plot(line, line, color=GREY, linestyle=":", label="perfect")
    left.fill_between(line, *_interval(model).all_ends(line), color=ORANGE, alpha=0.15, label="interval")
    left.set(
        xlim=(low, high), ylim=(low, high), xlabel="prediction", ylabel="label", title="Predictions on the holdout"
    )
    errors = true - predicted
    right.hist(np.clip(errors, *np.quantile(errors, _MIDDLE)), 60, color=BLUE, alpha=0.85)
    right.axvline(errors.mean(), color=RED, linestyle="--", label=f"mean {errors.mean():+.3g}")
    right.set(xlabel="label minus prediction", ylabel="rows", title="Residuals")
    for axes in (left, right):
        legend_below(axes, 3)
    figure.savefig(path)


def _coverage(path: Path, labels: np.ndarray, model: FinalModel) -> None:
    columns = model.output.columns(model.holdout)
    inside = (labels >= columns["interval_low"]) & (labels <= columns["interval_high"])
    order = np.argsort(model.holdout[:, 0], kind="stable")
    tenths = np.array_split(order, min(_TENTHS, len(order)))
    shares = np.array([inside[rows].mean() for rows in tenths])
    sizes = np.array([len(rows) for rows in tenths])
    figure, (axes,) = canvas(7, 4.6)
    error = 1.96 * np.sqrt(np.maximum(shares * (1 - shares), 0.25 / sizes) / sizes)
    axes.errorbar(range(1, len(tenths) + 1), shares, yerr=error, fmt="o", color=BLUE, capsize=3, label="seen")
    axes.axhline(inside.mean(), color=BLUE, linestyle=":", label=f"all rows {inside.mean():.1%}")
    axes.axhline(_interval(model).coverage, color=GREY, linestyle="--", label="declared")
    axes.set(xlabel="tenth of the predictions, ascending", ylabel="inside the interval", ylim=(0, 1.02))
    axes.set(title="Where the interval holds the true value")
    legend_below(axes, 3)
    figure.savefig(path)
