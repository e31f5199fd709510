"""Plot of a comparison: both models on the same rows, and their figures with intervals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from data.schema.use_case import UseCase
from data.sources.atomic_output import atomic_file
from tune.evaluation.plot_style import BLUE, ORANGE, canvas, legend_below
from tune.evaluation.reports import report_of
from tune.promotion.comparison import ComparedModel, ModelComparison
from tune.tasks.kinds import learning_task

_COLORS = (BLUE, ORANGE)


def write_comparison(path: Path, found: ModelComparison, use_case: UseCase) -> None:
    """Write the plot as PNG, whole or not at all; raises DataError when it cannot be written."""
    figure, axes = canvas(11 if found.shared else 6, 5, 2 if found.shared else 1)
    unit = [name for name in learning_task(use_case).shown if name in _shares(found)]
    _figures(axes[-1], (found.one, found.other), unit)
    if found.shared:
        sides = dict(zip((found.one.name, found.other.name), found.shared.scored, strict=True))
        report_of(use_case).compare(axes[0], found.shared.labels, sides, _COLORS)
    with atomic_file(path) as partial:
        figure.savefig(partial, format="png")


def _shares(found: ModelComparison) -> list[str]:
    """Names of the figures between 0 and 1 for both: those in the label's unit have no place on the same axis."""
    logged = [name for side in (found.one, found.other) for name in side.metrics]
    names = {name.removeprefix("holdout_") for name in logged if name.startswith("holdout_")}
    sides = (found.one.metrics, found.other.metrics)
    return [name for name in names if all(0 <= each.get(f"holdout_{name}", 0.0) <= 1 for each in sides)]


def _figures(axes: Axes, sides: tuple[ComparedModel, ComparedModel], shown: list[str]) -> None:
    for side, color, shift in zip(sides, _COLORS, (-0.13, 0.13), strict=True):
        for place, name in enumerate(shown):
            value = side.metrics.get(f"holdout_{name}", np.nan)
            low, high = (side.metrics.get(f"holdout_{name}_{end}", value) for end in ("low", "high"))
            axes.plot([low, high], [place + shift] * 2, color=color, linewidth=2)
            label = side.name if place == 0 else None
            axes.plot([value], [place + shift], "o", color=color, markersize=7, label=label)
            axes.annotate(
                f"{value:.3f}", (high, place + shift), (5, 0), textcoords="offset points", va="center", size=8
            )
    axes.set_yticks(range(len(shown)), shown)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.margins(x=0.12)
    axes.set(xlabel="on the holdout, 95 % interval", title="Figures")
    legend_below(axes)
