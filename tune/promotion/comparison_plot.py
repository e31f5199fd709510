"""Plot of a comparison: PR curves of both models on the same rows, and their figures with intervals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from data.sources.atomic_output import atomic_file
from tune.evaluation.plot_style import BLUE, ORANGE, canvas, legend_below
from tune.metrics.ranking import Ranking
from tune.promotion.comparison import ComparedModel, ModelComparison, SharedRows

_SHOWN = ("auc", "pr_auc", "f1", "precision", "recall")
_COLORS = (BLUE, ORANGE)


def write_comparison(path: Path, found: ModelComparison) -> None:
    """Write the plot as PNG, whole or not at all; raises DataError when it cannot be written."""
    figure, axes = canvas(11 if found.shared else 6, 5, 2 if found.shared else 1)
    _figures(axes[-1], (found.one, found.other))
    if found.shared:
        _curves(axes[0], found.shared, (found.one.name, found.other.name))
    with atomic_file(path) as partial:
        figure.savefig(partial, format="png")


def _curves(axes: Axes, shared: SharedRows, names: tuple[str, str]) -> None:
    for scored, name, color in zip(shared.scored, names, _COLORS, strict=True):
        ranking = Ranking(shared.labels, scored.probabilities)
        true, false = ranking.hits()
        recall, precision = true / true[-1], true / (true + false)
        at = max(int((ranking.scores >= scored.threshold).sum()) - 1, 0)
        area = f"{name}, PR-AUC {ranking.pr_auc():.3f}"
        axes.plot(np.append(0, recall), np.append(precision[0], precision), color=color, label=area, alpha=0.85)
        axes.plot([recall[at]], [precision[at]], "o", color=color, markersize=8)
    axes.set(xlabel="recall", ylabel="precision", xlim=(-0.02, 1.02), ylim=(-0.02, 1.05))
    axes.set(title=f"On the same {len(shared.labels):,} holdout rows; points at the thresholds")
    legend_below(axes)


def _figures(axes: Axes, sides: tuple[ComparedModel, ComparedModel]) -> None:
    for side, color, shift in zip(sides, _COLORS, (-0.13, 0.13), strict=True):
        for place, name in enumerate(_SHOWN):
            value = side.metrics.get(f"holdout_{name}", np.nan)
            low, high = (side.metrics.get(f"holdout_{name}_{end}", value) for end in ("low", "high"))
            axes.plot([low, high], [place + shift] * 2, color=color, linewidth=2)
            label = side.name if place == 0 else None
            axes.plot([value], [place + shift], "o", color=color, markersize=7, label=label)
            axes.annotate(
                f"{value:.3f}", (high, place + shift), (5, 0), textcoords="offset points", va="center", size=8
            )
    axes.set_yticks(range(len(_SHOWN)), list(_SHOWN))
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.margins(x=0.12)
    axes.set(xlabel="on the holdout, 95 % interval", title="Figures")
    legend_below(axes)
