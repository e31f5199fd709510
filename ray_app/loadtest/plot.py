"""Plot of a load test: latency, rate and running replicas over time, and the latency distribution."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from data.sources.atomic_output import atomic_file
from ray_app.loadtest.percentiles import curve
from ray_app.loadtest.report import Result
from ray_app.loadtest.slo import ERRORS

_BLUE, _ORANGE, _GREY, _RED = "#1f5fa8", "#d9730d", "#8a8a8a", "#b3261e"
_DPI = 110
_MAX_POINTS = 5000
_TICKS = (0, 0.5, 0.9, 0.99, 0.999, 0.9999)


def write_plot(path: Path, result: Result, latencies: np.ndarray) -> None:
    """Draw the result as a PNG file.

    Args:
        path: file to write.
        result: the load test's result.
        latencies: one value in s per request, failures as in the percentiles.

    Raises:
        DataError: the file cannot be written.
    """
    rows = 3 if result.replicas else 2
    figure = Figure(figsize=(12, 3.1 * rows + 0.6), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(rows, 2, width_ratios=(3, 2))
    panels = [figure.add_subplot(grid[row, 0]) for row in range(rows)]
    _latency(panels[0], result)
    _rate(panels[1], result)
    if result.replicas:
        _replicas(panels[2], result.replicas)
    for panel in panels:
        panel.set_xlim(0, max(len(result.seconds), 1))
    panels[-1].set_xlabel("s from the start of measuring")
    right = figure.add_subplot(grid[:, 1])
    _distribution(right, result, latencies)
    for panel in (*panels, right):
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(alpha=0.25)
    figure.suptitle(f"{result.setup.url}: {result.setup.profile}, {result.setup.rps:,g} requests/s")
    with atomic_file(path) as partial:
        figure.savefig(partial, format="png")


def _latency(axes: Axes, result: Result) -> None:
    at = [second.start + 0.5 for second in result.seconds]
    axes.plot(at, [second.p99 * 1e3 for second in result.seconds], color=_ORANGE, marker=".", label="p99")
    axes.plot(at, [second.p50 * 1e3 for second in result.seconds], color=_BLUE, marker=".", label="p50")
    axes.set(yscale="log", ylabel="ms", title="Latency of each second, from when requests were due")
    _bounds(axes, result)
    axes.legend(loc="best")


def _rate(axes: Axes, result: Result) -> None:
    at = [second.start + 0.5 for second in result.seconds]
    axes.step(at, [s.asked for s in result.seconds], where="mid", color=_GREY, linewidth=3, label="asked")
    axes.step(at, [s.achieved for s in result.seconds], where="mid", color=_BLUE, label="achieved (2xx)")
    if any(second.errors for second in result.seconds):
        axes.step(at, [s.errors for s in result.seconds], where="mid", color=_RED, label="errors")
    axes.set(ylabel="requests/s", title="Rate")
    axes.set_ylim(bottom=0)
    axes.legend(loc="best")


def _replicas(axes: Axes, replicas: Sequence[tuple[float, dict[str, int]]]) -> None:
    at = [time for time, _ in replicas]
    names = sorted({name for _, counts in replicas for name in counts})
    # Earlier lines are drawn wider, so that lines of the same height all stay visible.
    for width, name in zip(range(2 * len(names), 0, -2), names, strict=True):
        counts = [running.get(name, 0) for _, running in replicas]
        axes.step(at, counts, where="post", label=name, linewidth=width)
    axes.set(ylabel="running", title="Replicas")
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(loc="best")


def _distribution(axes: Axes, result: Result, latencies: np.ndarray) -> None:
    shares, values = curve(latencies)
    # Logarithmic thinning to a bounded number of points: dense at the slow end, where every request is drawn.
    kept = np.unique(np.append(np.geomspace(1, max(len(values), 1), _MAX_POINTS).astype(int), len(values)))
    kept = len(values) - kept[kept <= len(values)]
    # No request is slower than the last one, and a logarithmic axis cannot show 0: half a request stands for none.
    above = np.maximum(1 - shares[kept], 0.5 / max(len(values), 1))
    axes.plot(1 / above, values[kept] * 1e3, color=_BLUE)
    axes.set(xscale="log", yscale="log", ylabel="ms", xlabel="percentile", title="Distribution")
    axes.set_xticks([1 / (1 - share) for share in _TICKS], [f"{share * 100:g}" for share in _TICKS])
    axes.minorticks_off()
    _bounds(axes, result)


def _bounds(axes: Axes, result: Result) -> None:
    for judged in result.verdict:
        if judged.objective.name != ERRORS:
            color = _GREY if judged.held else _RED
            axes.axhline(judged.objective.bound * 1e3, color=color, linestyle=":", linewidth=1)
