"""Plots of a model, for MLflow: those of its kind of target, importance and slices."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xgboost
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from data.schema.use_case import UseCase
from tune.dataset.encoded_examples import EncodedExamples
from tune.evaluation.holdout_evaluation import HoldoutEvaluation
from tune.evaluation.kind_report import KindReport
from tune.evaluation.plot_style import BLUE, GREY, ORANGE, bars, canvas
from tune.evaluation.reports import report_of
from tune.evaluation.slices import SliceFigures
from tune.training.final_model import FinalModel

_MAX_FEATURES = 25


def write_plots(
    folder: Path,
    use_case: UseCase,
    holdout: EncodedExamples,
    model: FinalModel,
    figures: HoldoutEvaluation,
    names: Sequence[str],
) -> None:
    """Write every plot of a model as PNG into `folder`, which must exist.

    Args:
        folder: where to.
        use_case: the kind of target, and the metric that is shown by slice.
        holdout: the holdout rows.
        model: the model.
        figures: its evaluation.
        names: features in matrix order.
    """
    report = report_of(use_case)
    report.plots(folder, holdout.y, model)
    _importance(folder / "feature_importance.png", model.booster, names)
    if figures.slices:
        _slices(folder / "slices.png", figures, use_case.metric.value, report)


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


def _slices(path: Path, figures: HoldoutEvaluation, metric: str, report: KindReport) -> None:
    shown = figures.slices
    figure, (axes, rates) = canvas(11, 1.4 + 0.3 * len(shown), 2, (3, 2))
    for place, each in enumerate(shown):
        _slice(axes, place, each)
        rates.plot([each.observed, each.predicted], [place, place], color=GREY, linewidth=1, zorder=1)
    places = range(len(shown))
    rates.plot([each.observed for each in shown], places, "o", color=ORANGE, label=report.observed)
    rates.plot([each.predicted for each in shown], places, "|", color=BLUE, markersize=12, label=report.predicted)
    whole = figures.holdout.metrics[metric]
    axes.axvline(whole, color=ORANGE, linestyle="--", label=f"whole holdout {whole:.3f}")
    axes.set_yticks(range(len(shown)), [f"{each.name} ({each.rows:,})" for each in shown])
    rates.set_yticks(range(len(shown)), [""] * len(shown))
    for each in (axes, rates):
        each.set_ylim(len(shown) - 0.5, -0.5)
        each.grid(axis="y", visible=False)
        each.legend(loc="upper center", bbox_to_anchor=(0.5, -0.5 / (0.3 * len(shown) + 0.5)), ncols=2, frameon=False)
    # A metric below 0 is worse than a constant: bars of it grow to the left.
    low, high = axes.get_xlim()
    axes.set(xlim=(min(0, low), max(1.02, high) if high > 0.05 else 0))
    axes.set(title=f"{metric} by slice of the holdout (rows), 95 % interval")
    rates.set(title="Calibration by slice")
    rates.xaxis.set_major_locator(MaxNLocator(4))
    rates.xaxis.set_major_formatter(FuncFormatter(lambda value, _: report.rate(value)))
    figure.savefig(path)


def _slice(axes: Axes, place: int, each: SliceFigures) -> None:
    if each.metric is None or each.interval is None:
        axes.text(0.02, place, "too few rows of a label", va="center", color=GREY, fontsize=8)
        return
    axes.barh(place, each.metric, color=BLUE, height=0.6, alpha=0.85)
    low, high = each.interval
    axes.plot([low, high], [place, place], color="black", linewidth=1.4)
