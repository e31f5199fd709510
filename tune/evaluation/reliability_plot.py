"""The reliability curve: what a model says beside what happened, in bins of its scores."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from tune.evaluation.plot_style import BLUE
from tune.metrics.figures import expected_calibration_error, reliability


def reliability_curve(axes: Axes, labels: np.ndarray, scores: np.ndarray, color: str, name: str) -> list[float]:
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
