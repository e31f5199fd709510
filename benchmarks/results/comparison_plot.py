"""Plot of the serving comparison: latency, throughput and CPU of each server; format by the file's suffix."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from benchmarks.results.figures import short
from benchmarks.results.serving_report import SATURATED, Figures, Load, Outcome, serving_cpu
from benchmarks.servers.kinds import FASTAPI, KINDS, OURS

_OURS, _YARDSTICK, _PEER = "#1f5fa8", "#4a4a4a", "#b9b9b9"
_MARKERS = "o^sDv"
# Text stays text, and the same figures give the same file.
_STYLE: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": "rayscore", "font.size": 9}


def draw(path: Path, outcome: Outcome) -> None:
    """Draw the plot and write it atomically."""
    result = outcome.medians()
    names = [name for name in KINDS if any(name == found for found, _ in result)]
    connections = sorted({load.size for _, load in result if not load.is_open})
    rates = sorted({load.size for _, load in result if load.is_open})
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(11, 7), layout="constrained")
        FigureCanvasAgg(figure)
        grid = figure.subplots(2, 2)
        if connections:
            few, many = (Load(False, size) for size in (connections[0], connections[-1]))
            _bars(grid[0, 0], names, _of(result, few, "p50"), f"p50 in ms, {few}")
            _bars(grid[0, 1], names, _of(result, many, "req/s"), f"Requests/s, {many}")
            cpu = {name: serving_cpu(result[name, many]) for name in names if (name, many) in result}
            _bars(grid[1, 0], names, cpu, f"CPU ms a request, {many}")
        _open_loop(grid[1, 1], names, rates, result)
        for axes in grid.flat:
            axes.spines[["top", "right"]].set_visible(False)
        _save(figure, path)


def _of(result: dict[tuple[str, Load], Figures], load: Load, key: str) -> dict[str, float]:
    return {name: figures[key] for (name, found), figures in result.items() if found == load and key in figures}


def _bars(axes: Axes, names: list[str], values: dict[str, float], title: str) -> None:
    shown = [name for name in names if name in values]
    bars = axes.barh(shown, [values[name] for name in shown], color=[_colour(name) for name in shown])
    axes.bar_label(bars, [short(values[name]) for name in shown], padding=3, fontsize=8)
    _frame(axes, title)
    axes.set_yticks(range(len(shown)), [KINDS[name].title for name in shown])
    axes.set_xlim(min(values.values()) / 2, max(values.values()) * 3)


def _open_loop(axes: Axes, names: list[str], rates: list[int], result: dict[tuple[str, Load], Figures]) -> None:
    for marker, rate in zip(_MARKERS, rates, strict=False):
        load = Load(True, rate)
        kept = [name for name in names if (name, load) in result and not result[name, load][SATURATED]]
        p99 = [result[name, load]["p99"] for name in kept]
        places = [names.index(name) for name in kept]
        axes.scatter(p99, places, marker=marker, color=[_colour(name) for name in kept], s=36, zorder=3)
        # The legend's marks are black: the colours tell the servers.
        axes.scatter([], [], marker=marker, color="black", label=str(load))
    title = "p99 in ms, open loop (no mark: saturated)"
    _frame(axes, title)
    axes.set_yticks(range(len(names)), [KINDS[name].title for name in names])
    axes.grid(axis="y", alpha=0.25)
    if rates:
        axes.legend(loc="upper right", fontsize=8)


def _frame(axes: Axes, title: str) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.invert_yaxis()
    axes.set_title(title, loc="left", fontsize=9, fontweight="bold")
    axes.grid(axis="x", alpha=0.25)
    axes.set_axisbelow(True)


def _colour(name: str) -> str:
    return _OURS if name in OURS else _YARDSTICK if name == FASTAPI else _PEER


def _save(figure: Figure, path: Path) -> None:
    kind = path.suffix.lstrip(".") or "svg"
    scratch = path.with_name(f".{path.name}.new")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(scratch, format=kind, metadata={"Date": None} if kind == "svg" else None, dpi=110)
    os.replace(scratch, path)
