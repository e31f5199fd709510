"""Plots of a search: its history, and the importance of parameters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter
from sklearn.ensemble import RandomForestRegressor

from tune.evaluation.plot_style import BLUE, GREY, ORANGE, bars, canvas, legend_below
from tune.search.trial import Trial, best_trial

_LEAST_TRIALS = 8
"""Fewest trials for a plot of parameters; fewer say nothing about them."""
_SHOWN = 3


def write_search_plots(folder: Path, trials: Sequence[Trial], metric: str) -> None:
    """Write the plots of a search as PNG into `folder`, which must exist."""
    _history(folder / "search.png", trials, metric)
    if len(trials) >= _LEAST_TRIALS:
        _parameters(folder / "search_parameters.png", trials, metric)


def _history(path: Path, trials: Sequence[Trial], metric: str) -> None:
    figure, (left, right) = canvas(10, 5, 2)
    ordered = sorted(trials, key=lambda trial: trial.number)
    winner = best_trial(trials)
    for trial in ordered:
        color = GREY if trial.stopped_early else BLUE
        left.plot(range(1, len(trial.history) + 1), trial.history, color=color, linewidth=0.8, alpha=0.6)
    left.plot(range(1, len(winner.history) + 1), winner.history, color=ORANGE, linewidth=2.2)
    left.plot([winner.rounds], [winner.score], "o", color=ORANGE, label=f"best round {winner.rounds}")
    left.set(
        xlabel="round", ylabel=f"{metric} on validation", title=f"Trials; the best one, number {winner.number}, orange"
    )
    legend_below(left)
    floor = _floor(trials)
    for stopped, color, label in ((False, BLUE, "ran to its end"), (True, GREY, "stopped early")):
        some = [trial for trial in ordered if trial.stopped_early is stopped]
        if some:
            right.plot([t.number for t in some], [max(t.score, floor) for t in some], "o", color=color, label=label)
    best = np.maximum.accumulate([t.score for t in ordered])
    right.plot([t.number for t in ordered], best, color=ORANGE, drawstyle="steps-post", label="best so far")
    for axes in (left, right):
        axes.set_ylim(bottom=floor)
    right.set(xlabel="trial", ylabel=f"best {metric} on validation", title="The search")
    right.plot([winner.number], [winner.score], "o", color=ORANGE, markersize=9)
    legend_below(right, 3)
    figure.savefig(path)


def _floor(trials: Sequence[Trial]) -> float:
    """Return where the metric's axis begins: the worst tenth lies on its edge, so that it does not flatten the rest."""
    scores = [trial.score for trial in trials]
    low = float(np.quantile(scores, 0.1))
    return max(low - 0.5 * (max(scores) - low), 0.0)


def parameter_importance(trials: Sequence[Trial]) -> list[tuple[str, float]]:
    """Return (parameter, importance) of a random forest fitted to the scores, largest first; a hint, no proof."""
    trials = sorted(trials, key=lambda trial: trial.number)
    names = sorted(trials[0].params)
    columns = np.array([_numbers([trial.params[name] for trial in trials]) for name in names]).T
    scores = [trial.score for trial in trials]
    forest = RandomForestRegressor(n_estimators=200, min_samples_leaf=2, random_state=0, n_jobs=1).fit(columns, scores)
    return sorted(zip(names, map(float, forest.feature_importances_), strict=True), key=lambda pair: -pair[1])


def _numbers(values: Sequence[object]) -> list[float]:
    if all(isinstance(value, (int, float)) for value in values):
        return [float(str(value)) for value in values]
    words = sorted({str(value) for value in values})
    return [float(words.index(str(value))) for value in values]


def _parameters(path: Path, trials: Sequence[Trial], metric: str) -> None:
    ranked = parameter_importance(trials)
    shown = ranked[:_SHOWN]
    figure, (left, *others) = canvas(13, 3.8, 1 + len(shown), (1.3, *[1] * len(shown)))
    bars(left, [name for name, _ in ranked], [share for _, share in ranked])
    left.set(xlabel="importance", title=f"What moved {metric}, {len(trials)} trials")
    left.xaxis.set_ticklabels([])
    winner, floor = best_trial(trials), _floor(trials)
    for axes, (name, _) in zip(others, shown, strict=True):
        values = [trial.params[name] for trial in trials]
        axes.plot(values, [max(trial.score, floor) for trial in trials], "o", color=BLUE, alpha=0.7)
        axes.plot([winner.params[name]], [winner.score], "o", color=ORANGE, markersize=9)
        axes.set(xlabel=name, title=f"{metric} by {name}")
        axes.set_ylim(bottom=floor)
        low, high = min(map(_size, values)), max(map(_size, values))
        if low > 0 and high / low > 5:
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
            axes.xaxis.set_minor_formatter(NullFormatter())
    figure.savefig(path)


def _size(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0
