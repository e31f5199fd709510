"""The pictures that MLflow shows beside a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xgboost
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tune.evaluate import calibration
from tune.examples import Examples
from tune.ranking import Ranking
from tune.trial import Trial, best_trial

_BLUE, _ORANGE, _GREY = "#1f5fa8", "#d9730d", "#8a8a8a"
_MAX_FEATURES = 25
_DPI = 110


def write_plots(
    folder: Path,
    holdout: Examples,
    scores: np.ndarray,
    threshold: float,
    booster: xgboost.Booster,
    names: Sequence[str],
    trials: Sequence[Trial],
    metric: str,
) -> None:
    """Write every plot as PNG into `folder`, which must exist.

    Args:
        folder: where to.
        holdout: its labels are compared with `scores`.
        scores: probabilities on the holdout, shape (n,).
        threshold: the operating point.
        booster: the model.
        names: feature names in matrix order.
        trials: the finished trials of the search.
        metric: what the search maximized.
    """
    _curves(folder / "pr_and_roc.png", holdout.y, scores, threshold)
    _calibration(folder / "calibration.png", holdout.y, scores)
    _importance(folder / "feature_importance.png", booster, names)
    _search(folder / "search.png", trials, metric)


def _figure(width: float, height: float, columns: int = 1) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = [figure.add_subplot(1, columns, i + 1) for i in range(columns)]
    for each in axes:
        each.spines[["top", "right"]].set_visible(False)
        each.grid(alpha=0.25)
        each.set_axisbelow(True)
    return figure, axes


def _curves(path: Path, labels: np.ndarray, scores: np.ndarray, threshold: float) -> None:
    ranking = Ranking(labels, scores)
    true, false = ranking.hits()
    recall, fall_out = true / true[-1], false / max(false[-1], 1)
    precision = true / (true + false)
    at = max(int((ranking.scores >= threshold).sum()) - 1, 0)
    figure, (left, right) = _figure(10, 4.6, 2)
    left.plot(recall, precision, color=_BLUE)
    left.axhline(labels.mean(), color=_GREY, linestyle=":", label=f"chance ({labels.mean():.3g})")
    left.set(xlabel="recall", ylabel="precision", title=f"Precision and recall, area {ranking.pr_auc():.3f}")
    right.plot(np.append(0, fall_out), np.append(0, recall), color=_BLUE)
    right.plot([0, 1], [0, 1], color=_GREY, linestyle=":", label="chance")
    right.set(xlabel="false positive rate", ylabel="true positive rate", title=f"ROC, area {ranking.auc():.3f}")
    for axes, x, y in ((left, recall[at], precision[at]), (right, fall_out[at], recall[at])):
        axes.plot([x], [y], "o", color=_ORANGE, markersize=8, label=f"threshold {threshold:.3g}")
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.05))
    left.legend(loc="lower left")
    right.legend(loc="lower right")
    figure.savefig(path)


def _calibration(path: Path, labels: np.ndarray, scores: np.ndarray) -> None:
    mean, share, size = calibration(labels, scores)
    error = 1.96 * np.sqrt(np.maximum(share * (1 - share), 1e-12) / size)
    top = max(float(mean.max()), float((share + error).max())) * 1.05
    figure, (axes,) = _figure(5.6, 5)
    axes.plot([0, top], [0, top], color=_GREY, linestyle=":", label="perfect")
    axes.errorbar(mean, share, yerr=error, fmt="o", color=_BLUE, capsize=3, label=f"{len(mean)} equal groups, 95 %")
    axes.set(xlabel="mean predicted probability", ylabel="share of label 1", title="Calibration on the holdout")
    axes.set(xlim=(-0.02 * top, top), ylim=(-0.02 * top, top))
    axes.legend(loc="lower right")
    figure.savefig(path)


def importance(booster: xgboost.Booster, names: Sequence[str]) -> list[tuple[str, float]]:
    """Each feature's share of the total gain of all splits, largest first; a feature never used has 0."""
    gains = booster.get_score(importance_type="total_gain")
    values = [float(np.sum(gains.get(f"f{i}", 0.0))) for i in range(len(names))]
    total = sum(values) or 1.0
    return sorted(((name, value / total) for name, value in zip(names, values, strict=True)), key=lambda p: -p[1])


def _importance(path: Path, booster: xgboost.Booster, names: Sequence[str]) -> None:
    shown = importance(booster, names)[:_MAX_FEATURES][::-1]
    figure, (axes,) = _figure(7, 1.2 + 0.28 * len(shown))
    axes.barh([name for name, _ in shown], [share for _, share in shown], color=_BLUE)
    axes.set(xlabel="share of total gain", title="Feature importance")
    figure.savefig(path)


def _search(path: Path, trials: Sequence[Trial], metric: str) -> None:
    figure, (left, right) = _figure(10, 4.6, 2)
    ordered = sorted(trials, key=lambda trial: trial.number)
    winner = best_trial(trials)
    for trial in ordered:
        color, width = (_ORANGE, 2.0) if trial is winner else (_BLUE, 0.8)
        left.plot(range(1, len(trial.history) + 1), trial.history, color=color, linewidth=width, alpha=0.8)
    left.set(
        xlabel="round", ylabel=f"{metric} on validation", title=f"Trials, the best (number {winner.number}) orange"
    )
    for stopped, color, label in ((False, _BLUE, "ran to its end"), (True, _GREY, "stopped early by ASHA")):
        some = [trial for trial in ordered if trial.stopped_early is stopped]
        right.plot([t.number for t in some], [t.score for t in some], "o", color=color, label=label)
    right.plot(
        [t.number for t in ordered],
        np.maximum.accumulate([t.score for t in ordered]),
        color=_ORANGE,
        drawstyle="steps-post",
        label="best so far",
    )
    right.set(xlabel="trial", ylabel=f"best {metric}", title="The search")
    right.legend(loc="lower right")
    figure.savefig(path)
