"""The style that all plots share: colors, canvas, legend and bars."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

BLUE, ORANGE, GREY, RED = "#1f5fa8", "#d9730d", "#8a8a8a", "#b3261e"
_DPI = 110


def canvas(
    width: float, height: float, columns: int = 1, widths: Sequence[float] | None = None
) -> tuple[Figure, list[Axes]]:
    """Return an empty figure of `width` x `height` inches with `columns` axes side by side, of relative `widths`."""
    # Not by pyplot, which keeps every figure alive and may ask for a display.
    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(1, columns, width_ratios=widths)
    axes = [figure.add_subplot(grid[0, i]) for i in range(columns)]
    for each in axes:
        each.spines[["top", "right"]].set_visible(False)
        each.grid(alpha=0.25)
        each.set_axisbelow(True)
        each.title.set_fontsize(11)
    return figure, axes


def legend_below(axes: Axes, columns: int = 2) -> None:
    """Place the legend under the axis label, where it hides nothing."""
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=columns, frameon=False, fontsize=9)


def bars(axes: Axes, names: Sequence[str], lengths: Sequence[float], color: str = BLUE) -> None:
    """Draw horizontal bars, the first on top, each labelled with its length in percent."""
    axes.barh(range(len(names)), list(lengths), color=color)
    axes.set_yticks(range(len(names)), list(names))
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    for place, length in enumerate(lengths):
        axes.annotate(f"{length:.1%}", (length, place), (4, 0), textcoords="offset points", va="center", fontsize=8)
    axes.margins(x=0.12)
