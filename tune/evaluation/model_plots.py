"""Plots of a model, for MLflow: PR and ROC curves, calibration, confusion matrix, importance and slices."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xgboost
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from data.schema.search import Metric
from tune.dataset.encoded_examples import EncodedExamples
from tune.evaluation.holdout_evaluation import HoldoutEvaluation
from tune.evaluation.plot_style import BLUE, GREY, ORANGE, RED, bars, canvas, legend_below
from tune.evaluation.slices import SliceFigures
from tune.metrics.figures import expected_calibration_error, reliability
from tune.metrics.ranking import Ranking
from tune.training.final_model import FinalModel

_MAX_FEATURES = 25


def write_plots(
    folder: Path,
    holdout: EncodedExamples,
    model: FinalModel,
    figures: HoldoutEvaluation,
    names: Sequence[str],
    metric: Metric,
) -> None:
    """Write every plot of a model as PNG into `folder`, which must exist.

    Args:
        folder: where to.
        holdout: the holdout rows.
        model: the model.
        figures: its evaluation.
        names: features in matrix order.
        metric: the search's metric, shown by slice.
    """
    _curves(folder / "pr_and_roc.png", holdout.y, model)
    _calibration(folder / "calibration.png", holdout.y, model)
    _confusion(folder / "confusion.png", holdout.y, model)
    _importance(folder / "feature_importance.png", model.booster, names)
    if figures.slices:
        _slices(folder / "slices.png", figures, metric)


def _curves(path: Path, labels: np.ndarray, model: FinalModel) -> None:
    ranking = Ranking(labels, model.holdout)
    true, false = ranking.hits()
    recall, fall_out = true / true[-1], false / max(false[-1], 1)
    precision = true / (true + false)
    at = max(int((ranking.scores >= model.threshold).sum()) - 1, 0)
    figure, (left, right) = canvas(10, 5, 2)
    left.plot(np.append(0, recall), np.append(precision[0], precision), color=BLUE, drawstyle="steps-post")
    left.axhline(labels.mean(), color=GREY, linestyle=":", label=f"chance ({labels.mean():.3g})")
    left.set(xlabel="recall", ylabel="precision", title=f"Precision and recall, PR-AUC {ranking.pr_auc():.3f}")
    right.plot(np.append(0, fall_out), np.append(0, recall), color=BLUE)
    right.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="chance")
    right.set(xlabel="false positive rate", ylabel="true positive rate", title=f"ROC, AUC {ranking.auc():.3f}")
    point = f"threshold {model.threshold:.3g}: recall {recall[at]:.2f}, "
    for axes, x, y, label in (
        (left, recall[at], precision[at], f"{point}precision {precision[at]:.2f}"),
        (right, fall_out[at], recall[at], f"{point}false alarms {fall_out[at]:.2%}"),
    ):
        axes.plot([x], [y], "o", color=ORANGE, markersize=8, label=label)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.05))
        legend_below(axes)
    figure.savefig(path)


def _calibration(path: Path, labels: np.ndarray, model: FinalModel) -> None:
    figure, (axes, counts) = canvas(10, 5, 2)
    ends = []
    if model.calibrator is not None:
        ends += _reliability(axes, labels, model.uncalibrated, GREY, "before calibration")
    ends += _reliability(axes, labels, model.holdout, BLUE, "as it answers")
    low, high = 10 ** np.floor(np.log10(min(ends))), 1.3 * max(ends)
    axes.plot([low, high], [low, high], color=GREY, linestyle=":", label="perfect")
    axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high), title="Calibration on the holdout")
    axes.set(xlabel="mean probability of about a tenth of the rows", ylabel="share of label 1 in it, 95 % interval")
    legend_below(axes)
    edges = np.linspace(0, 1, 41).tolist()
    for label, color in ((0, BLUE), (1, ORANGE)):
        counts.hist(model.holdout[labels == label], edges, color=color, alpha=0.65, label=f"label {label}")
    counts.axvline(model.threshold, color=RED, linestyle="--", label=f"threshold {model.threshold:.3g}")
    counts.set(yscale="log", xlabel="probability", ylabel="rows", title="Where the probabilities lie")
    legend_below(counts, 3)
    figure.savefig(path)


def _reliability(axes: Axes, labels: np.ndarray, scores: np.ndarray, color: str, name: str) -> list[float]:
    """Draw one curve with Wilson intervals (1927) and return the positive numbers that must fit on the axes."""
    mean, share, size = reliability(labels, scores)
    z = 1.96
    middle = (share + z**2 / (2 * size)) / (1 + z**2 / size)
    half = z / (1 + z**2 / size) * np.sqrt(share * (1 - share) / size + z**2 / (4 * size**2))
    shown = share > 0
    label = f"{name}, ECE {expected_calibration_error(labels, scores):.4f}"
    low, high = np.maximum(share - (middle - half), 0), np.maximum(middle + half - share, 0)
    axes.errorbar(
        mean[shown], share[shown], yerr=(low[shown], high[shown]), fmt="o-", color=color, capsize=3, label=label
    )
    # A tenth without any label 1 has no place on a logarithmic axis: its upper end shows where it can be.
    upper = "no label 1 there: upper end" if color == BLUE and not shown.all() else None
    axes.plot(mean[~shown], (middle + half)[~shown], "v", color=color, markersize=7, alpha=0.7, label=upper)
    return [float(each) for each in (*mean, *share, *(middle + half)) if each > 0]


def _confusion(path: Path, labels: np.ndarray, model: FinalModel) -> None:
    chosen = model.holdout.astype(np.float64) >= model.threshold
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
    axes.set_title(f"Decisions on the holdout at threshold {model.threshold:.3g}")
    figure.savefig(path)


def importance(booster: xgboost.Booster, names: Sequence[str]) -> list[tuple[str, float]]:
    """Return (feature, share of the total gain of all splits), largest first; an unused feature has 0."""
    gains = booster.get_score(importance_type="total_gain")
    values = [float(np.sum(gains.get(f"f{i}", 0.0))) for i in range(len(names))]
    total = sum(values) or 1.0
    return sorted(((name, value / total) for name, value in zip(names, values, strict=True)), key=lambda p: -p[1])


def _importance(path: Path, booster: xgboost.Booster, names: Sequence[str]) -> None:
    shown = importance(booster, names)[:_MAX_FEATURES]
    figure, (axes,) = canvas(7, 1.2 + 0.28 * len(shown))
    bars(axes, [name for name, _ in shown], [share for _, share in shown])
    more = f", the first {_MAX_FEATURES} of {len(names)}" if len(names) > _MAX_FEATURES else ""
    axes.set(xlabel="share of the total gain of all splits", title=f"Feature importance{more}")
    axes.xaxis.set_major_formatter(PercentFormatter(1, 0))
    figure.savefig(path)


def _slices(path: Path, figures: HoldoutEvaluation, metric: Metric) -> None:
    shown = figures.slices
    figure, (axes, rates) = canvas(11, 1.4 + 0.3 * len(shown), 2, (3, 2))
    for place, each in enumerate(shown):
        _slice(axes, place, each)
        rates.plot([each.share, each.mean], [place, place], color=GREY, linewidth=1, zorder=1)
    rates.plot([each.share for each in shown], range(len(shown)), "o", color=ORANGE, label="share of label 1")
    rates.plot(
        [each.mean for each in shown], range(len(shown)), "|", color=BLUE, markersize=12, label="mean probability"
    )
    whole = figures.holdout.metrics[metric.value]
    axes.axvline(whole, color=ORANGE, linestyle="--", label=f"whole holdout {whole:.3f}")
    axes.set_yticks(range(len(shown)), [f"{each.name} ({each.rows:,})" for each in shown])
    rates.set_yticks(range(len(shown)), [""] * len(shown))
    for each in (axes, rates):
        each.set_ylim(len(shown) - 0.5, -0.5)
        each.grid(axis="y", visible=False)
        each.legend(loc="upper center", bbox_to_anchor=(0.5, -0.5 / (0.3 * len(shown) + 0.5)), ncols=2, frameon=False)
    axes.set(xlim=(0, 1.02), title=f"{metric.value} by slice of the holdout (rows), 95 % interval")
    rates.set(title="Calibration by slice")
    rates.xaxis.set_major_formatter(PercentFormatter(1))
    rates.set_xlim(left=0)
    figure.savefig(path)


def _slice(axes: Axes, place: int, each: SliceFigures) -> None:
    if each.metric is None or each.interval is None:
        axes.text(0.02, place, "too few rows of a label", va="center", color=GREY, fontsize=8)
        return
    axes.barh(place, each.metric, color=BLUE, height=0.6, alpha=0.85)
    low, high = each.interval
    axes.plot([low, high], [place, place], color="black", linewidth=1.4)
