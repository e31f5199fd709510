"""The report on a model of several classes: curves of each class against the rest, confusion matrix, calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes

from data.schema.output import Output
from data.schema.use_case import UseCase
from tune.evaluation.holdout_evaluation import HoldoutEvaluation
from tune.evaluation.kind_report import KindReport
from tune.evaluation.plot_style import BLUE, GREY, canvas, legend_below
from tune.evaluation.reliability_plot import reliability_curve
from tune.metrics.ranking import Ranking
from tune.tasks.learning_task import Scored
from tune.training.final_model import FinalModel

_MOST_CURVES = 10
_FEW = 100


class MulticlassReport(KindReport):
    """As `KindReport`."""

    answers = "The likeliest class, and the probability of each."
    observed = "right answers"
    predicted = "mean probability of the answer"

    def plots(self, folder: Path, labels: np.ndarray, model: FinalModel) -> None:
        """PR curves of each class against the rest, calibration of the answer, and the confusion matrix."""
        _curves(folder / "pr_by_class.png", labels, model)
        _calibration(folder / "calibration.png", labels, model)
        _confusion(folder / "confusion.png", labels, model)

    def compare(self, axes: Axes, labels: np.ndarray, sides: Mapping[str, Scored], colors: Sequence[str]) -> None:
        """F1 of each class."""
        names = _names(next(iter(sides.values())).output)
        for (name, scored), color, shift in zip(sides.items(), colors, (-0.13, 0.13), strict=True):
            answers = scored.scores.argmax(axis=1)
            figures = [_f1(labels == code, answers == code) for code in range(len(names))]
            axes.plot(figures, np.arange(len(names)) + shift, "o", color=color, markersize=7, label=name)
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.set(xlabel="F1 of the class", title=f"On the same {len(labels):,} holdout rows")
        legend_below(axes)

    def decision(self, use_case: UseCase, model: FinalModel, figures: HoldoutEvaluation) -> str:
        """How the label follows from the probabilities."""
        metrics = figures.holdout.metrics
        return (
            "## Decision\n\nThe label is the likeliest class, of equal ones the first of "
            f"{', '.join(f'`{name}`' for name in _names(model.output))}. On the holdout "
            f"{metrics['accuracy']:.1%} of the labels are right; the mean of the classes' F1 is "
            f"{metrics['macro_f1']:.4f}."
        )

    def limits(self, labels: np.ndarray, model: FinalModel) -> list[str]:
        """Classes of few rows; no calibration."""
        counts, found = np.bincount(labels, minlength=model.output.width), []
        rare = [f"{name} ({count:,})" for name, count in zip(_names(model.output), counts, strict=True) if count < _FEW]
        if rare:
            found.append(f"Classes with few rows in the holdout, whose figures are uncertain: {', '.join(rare)}.")
        if model.calibrator is None:
            found.append(
                "The probabilities are not calibrated; the calibration plot shows how far they can be taken literally."
            )
        return found


def _names(output: Output) -> list[str]:
    return [str(label) for label in output.labels or ()]


def _f1(true: np.ndarray, answered: np.ndarray) -> float:
    return 2 * float((true & answered).sum()) / max(float(true.sum() + answered.sum()), 1.0)


def _curves(path: Path, labels: np.ndarray, model: FinalModel) -> None:
    names, counts = _names(model.output), np.bincount(labels, minlength=model.output.width)
    shown = np.argsort(-counts, kind="stable")[:_MOST_CURVES]
    figure, (left, right) = canvas(11, 5, 2)
    for code, color in zip(shown, colormaps["tab10"](range(len(shown))), strict=True):
        if not 0 < counts[code] < len(labels):
            continue
        ranking = Ranking((labels == code).astype(np.uint8), model.holdout[:, code])
        true, false = ranking.hits()
        recall, precision, fall_out = true / true[-1], true / (true + false), false / false[-1]
        left.plot(recall, precision, color=color, label=f"{names[code]}, PR-AUC {ranking.pr_auc():.3f}")
        right.plot(np.append(0, fall_out), np.append(0, recall), color=color, label=f"AUC {ranking.auc():.3f}")
    more = f", the {len(shown)} most common of {len(names)}" if len(names) > len(shown) else ""
    left.set(xlabel="recall", ylabel="precision", title=f"Each class against the rest{more}")
    right.plot([0, 1], [0, 1], color=GREY, linestyle=":")
    right.set(xlabel="false positive rate", ylabel="true positive rate", title="ROC of each class")
    for axes in (left, right):
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.05))
        legend_below(axes)
    figure.savefig(path)


def _calibration(path: Path, labels: np.ndarray, model: FinalModel) -> None:
    figure, (axes,) = canvas(5.6, 5)
    sides = [(model.holdout, BLUE, "as it answers")]
    if model.calibrator is not None:
        sides.insert(0, (model.uncalibrated, GREY, "before calibration"))
    for scores, color, name in sides:
        right = (scores.argmax(axis=1) == labels).astype(np.uint8)
        reliability_curve(axes, right, scores.max(axis=1), color, name)
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="perfect")
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02), title="Calibration of the answer on the holdout")
    axes.set(xlabel="mean probability of about a tenth of the rows", ylabel="right answers in it, 95 % interval")
    legend_below(axes)
    figure.savefig(path)


def _confusion(path: Path, labels: np.ndarray, model: FinalModel) -> None:
    names, answers = _names(model.output), model.holdout.argmax(axis=1)
    width = len(names)
    counts = np.bincount(labels.astype(np.int64) * width + answers, minlength=width**2).reshape(width, width)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = 3.2 + 0.6 * width
    figure, (axes,) = canvas(size, size * 0.9)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.grid(visible=False)
    if width <= _MOST_CURVES:
        for (row, column), count in np.ndenumerate(counts):
            color = "white" if shares[row, column] > 0.5 else "black"
            text = f"{count:,}\n{shares[row, column]:.0%}"
            axes.text(column, row, text, ha="center", va="center", color=color, fontsize=9)
    axes.set_xticks(range(width), names, rotation=45, ha="right")
    axes.set_yticks(range(width), names)
    axes.set(xlabel="answered", ylabel="true", title="Answers on the holdout, shares of the true class")
    figure.savefig(path)
