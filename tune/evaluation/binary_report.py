"""The report on a model of two labels: PR and ROC curves, calibration, confusion matrix, and the threshold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from data.schema.output import Output
from data.schema.outputs.binary_output import BinaryOutput
from data.schema.use_case import UseCase
from tune.evaluation.holdout_evaluation import HoldoutEvaluation
from tune.evaluation.kind_report import KindReport
from tune.evaluation.plot_style import BLUE, GREY, ORANGE, RED, canvas, legend_below
from tune.evaluation.reliability_plot import reliability_curve
from tune.metrics.ranking import Ranking
from tune.tasks.learning_task import Scored
from tune.training.final_model import FinalModel

_FEW = 100


class BinaryReport(KindReport):
    """As `KindReport`."""

    answers = "Probability that the label is the positive one."
    observed = "share of the positive label"
    predicted = "mean probability"

    def plots(self, folder: Path, labels: np.ndarray, model: FinalModel) -> None:
        """Curves, calibration, and the confusion matrix."""
        _curves(folder / "pr_and_roc.png", labels, model)
        _calibration(folder / "calibration.png", labels, model)
        _confusion(folder / "confusion.png", labels, model)

    def compare(self, axes: Axes, labels: np.ndarray, sides: Mapping[str, Scored], colors: Sequence[str]) -> None:
        """PR curves, with points at the thresholds."""
        for (name, scored), color in zip(sides.items(), colors, strict=True):
            ranking = Ranking(labels, scored.scores[:, 0])
            true, false = ranking.hits()
            recall, precision = true / true[-1], true / (true + false)
            at = max(int((ranking.scores >= _threshold(scored.output)).sum()) - 1, 0)
            area = f"{name}, PR-AUC {ranking.pr_auc():.3f}"
            axes.plot(np.append(0, recall), np.append(precision[0], precision), color=color, label=area, alpha=0.85)
            axes.plot([recall[at]], [precision[at]], "o", color=color, markersize=8)
        axes.set(xlabel="recall", ylabel="precision", xlim=(-0.02, 1.02), ylim=(-0.02, 1.05))
        axes.set(title=f"On the same {len(labels):,} holdout rows; points at the thresholds")
        legend_below(axes)

    def decision(self, use_case: UseCase, model: FinalModel, figures: HoldoutEvaluation) -> str:
        """The threshold, why it is that, and what it finds."""
        metrics, decision, positive = figures.holdout.metrics, use_case.decision, use_case.task.labels or (0, 1)
        if decision.cost is not None:
            cost = decision.cost
            why = (
                f"has the smallest cost out of fold, at {cost.false_positive:g} for a false positive and "
                f"{cost.false_negative:g} for a false negative"
            )
        else:
            why = f"has the best {decision.metric.value} out of fold"
        spent = f" The cost is {metrics['cost']:.4g} a row on the holdout." if "cost" in metrics else ""
        return (
            f"## Decision\n\nA row with a probability of {_threshold(model.output):.4g} or more is labelled "
            f"{positive[1]}. The threshold {why}. On the holdout it finds {metrics['recall']:.1%} of the rows with "
            f"`{use_case.label}` = {positive[1]}, and {metrics['precision']:.1%} of what it marks is right.{spent}"
        )

    def limits(self, labels: np.ndarray, model: FinalModel) -> list[str]:
        """Few rows of the positive label; no calibration."""
        ones, found = int(labels.sum()), []
        if ones < _FEW:
            found.append(
                f"The holdout has {ones:,} rows with the positive label only: every figure is uncertain, see the "
                "intervals."
            )
        if model.calibrator is None:
            found.append(
                "The probability is not calibrated; the calibration plot shows how far it can be taken literally."
            )
        return found


def _threshold(output: Output) -> float:
    assert isinstance(output, BinaryOutput), "scores of two labels have a threshold"
    return output.threshold


def _curves(path: Path, labels: np.ndarray, model: FinalModel) -> None:
    ranking, threshold = Ranking(labels, model.holdout[:, 0]), _threshold(model.output)
    true, false = ranking.hits()
    recall, fall_out = true / true[-1], false / max(false[-1], 1)
    precision = true / (true + false)
    at = max(int((ranking.scores >= threshold).sum()) - 1, 0)
    figure, (left, right) = canvas(10, 5, 2)
    left.plot(np.append(0, recall), np.append(precision[0], precision), color=BLUE, drawstyle="steps-post")
    left.axhline(labels.mean(), color=GREY, linestyle=":", label=f"chance ({labels.mean():.3g})")
    left.set(xlabel="recall", ylabel="precision", title=f"Precision and recall, PR-AUC {ranking.pr_auc():.3f}")
    right.plot(np.append(0, fall_out), np.append(0, recall), color=BLUE)
    right.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="chance")
    right.set(xlabel="false positive rate", ylabel="true positive rate", title=f"ROC, AUC {ranking.auc():.3f}")
    point = f"threshold {threshold:.3g}: recall {recall[at]:.2f}, "
    for axes, x, y, label in (
        (left, recall[at], precision[at], f"{point}precision {precision[at]:.2f}"),
        (right, fall_out[at], recall[at], f"{point}false alarms {fall_out[at]:.2%}"),
    ):
        axes.plot([x], [y], "o", color=ORANGE, markersize=8, label=label)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.05))
        legend_below(axes)
    figure.savefig(path)


def _calibration(path: Path, labels: np.ndarray, model: FinalModel) -> None:
    threshold = _threshold(model.output)
    figure, (axes, counts) = canvas(10, 5, 2)
    ends = []
    if model.calibrator is not None:
        ends += reliability_curve(axes, labels, model.uncalibrated[:, 0], GREY, "before calibration")
    ends += reliability_curve(axes, labels, model.holdout[:, 0], BLUE, "as it answers")
    low, high = 10 ** np.floor(np.log10(min(ends))), 1.3 * max(ends)
    axes.plot([low, high], [low, high], color=GREY, linestyle=":", label="perfect")
    axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high), title="Calibration on the holdout")
    axes.set(xlabel="mean probability of about a tenth of the rows", ylabel="share of label 1 in it, 95 % interval")
    legend_below(axes)
    edges = np.linspace(0, 1, 41).tolist()
    for label, color in ((0, BLUE), (1, ORANGE)):
        counts.hist(model.holdout[labels == label, 0], edges, color=color, alpha=0.65, label=f"label {label}")
    counts.axvline(threshold, color=RED, linestyle="--", label=f"threshold {threshold:.3g}")
    counts.set(yscale="log", xlabel="probability", ylabel="rows", title="Where the probabilities lie")
    legend_below(counts, 3)
    figure.savefig(path)


def _confusion(path: Path, labels: np.ndarray, model: FinalModel) -> None:
    threshold = _threshold(model.output)
    chosen = model.holdout[:, 0].astype(np.float64) >= threshold
    counts = np.array([[int((chosen == marked)[labels == label].sum()) for marked in (0, 1)] for label in (0, 1)])
    shares = counts / counts.sum(axis=1, keepdims=True)
    figure, (axes,) = canvas(5.6, 4.6)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.grid(visible=False)
    words = [["left alone, rightly", "false alarms"], ["missed", "found"]]
    for (row, column), count in np.ndenumerate(counts):
        text = f"{count:,}\n{shares[row, column]:.2%}\n{words[row][column]}"
        color = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, text, ha="center", va="center", color=color, fontsize=11)
    axes.set_xticks([0, 1], ["not marked", "marked"])
    axes.set_yticks([0, 1], ["label 0", "label 1"])
    axes.set_title(f"Decisions on the holdout at threshold {threshold:.3g}")
    figure.savefig(path)
