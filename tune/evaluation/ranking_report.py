"""The report on a ranking: what the first items of a list hold, and how good lists of each size are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from data.schema.outputs.ranking_output import RankingOutput
from data.schema.search import Metric
from data.schema.use_case import UseCase
from tune.evaluation.holdout_evaluation import HoldoutEvaluation
from tune.evaluation.kind_report import KindReport
from tune.evaluation.plot_style import BLUE, GREY, ORANGE, canvas, legend_below
from tune.metrics.list_figures import ListFigures
from tune.tasks.learning_task import Scored
from tune.training.final_model import FinalModel

_PLACES = 20
"""Most places from the top that a curve shows."""
_SIZES = 8
"""Most classes of list sizes, each with about equally many lists."""
_LEAST = 2
"""Fewest lists of a class that are shown."""


class RankingReport(KindReport):
    """As `KindReport`."""

    answers = "A score by which the items of a list are ordered, and each one's rank."
    observed = "mean grade"
    predicted = "mean score"

    def rate(self, value: float) -> str:
        """A number."""
        return f"{value:.4g}"

    def plots(self, folder: Path, labels: np.ndarray, model: FinalModel) -> None:
        """NDCG by the number of places that count, and by the size of the list."""
        scored = model.scored(model.holdout)
        figure, (axes,) = canvas(7, 4.6)
        _curve(axes, labels, scored, BLUE, "this model")
        _curve(axes, labels, scored._replace(scores=np.zeros_like(scored.scores)), GREY, "random order")
        axes.set(title="The first k items of a list of the holdout")
        legend_below(axes, 3)
        figure.savefig(folder / "gain_curve.png")
        _by_size(folder / "ndcg_by_list_size.png", labels, scored)

    def compare(self, axes: Axes, labels: np.ndarray, sides: Mapping[str, Scored], colors: Sequence[str]) -> None:
        """NDCG by the number of places that count."""
        for (name, scored), color in zip(sides.items(), colors, strict=True):
            _curve(axes, labels, scored, color, name)
        axes.set(title=f"On the same {len(labels):,} holdout rows")
        legend_below(axes)

    def decision(self, use_case: UseCase, model: FinalModel, figures: HoldoutEvaluation) -> str:
        """What a list is, and what the figures count."""
        scored = model.scored(model.holdout)
        at = _at(scored)
        sizes = _figures(np.zeros(len(scored.scores)), scored, at).sizes
        return (
            f"## Order\n\nThe items with one value of `{use_case.task.list_column}` are a list, which no part and no "
            f"fold divides: the holdout has {len(sizes):,} lists of {sizes.min()} to {sizes.max()} items. "
            "The score orders the items of one list, the largest first, and says nothing beyond that: neither how "
            "likely an item is relevant, nor how one list compares with another. NDCG and MAP count the first "
            f"{at} items, MRR the whole list. Lists without a relevant item have no figures, and are in none of the "
            "means; items with the same score count by the mean over their orders."
        )

    def calibration(self, model: FinalModel, figures: HoldoutEvaluation, names: Sequence[str]) -> str:
        """Nothing: there are no probabilities."""
        return ""

    def limits(self, labels: np.ndarray, model: FinalModel) -> list[str]:
        """What was shown decides what could be learned; and lists without a relevant item."""
        scored = model.scored(model.holdout)
        found = _figures(labels, scored, _at(scored))
        without, alone = int((~found.has_relevant).sum()), int((found.sizes == 1).sum())
        return [
            "Grades are of items that were shown: what an earlier order placed low was seen less, and is graded lower "
            "than it deserves.",
            f"Of the holdout's lists {without:,} have no relevant item, and {alone:,} one item only: nothing can be "
            "said of them.",
        ]


def _at(scored: Scored) -> int:
    assert isinstance(scored.output, RankingOutput), "scores of a ranking have its output"
    return scored.output.at


def _figures(labels: np.ndarray, scored: Scored, at: int) -> ListFigures:
    assert scored.lists is not None, "scores of a ranking have lists"
    return ListFigures(labels, scored.scores[:, 0], scored.lists, at)


def _curve(axes: Axes, labels: np.ndarray, scored: Scored, color: str, name: str) -> None:
    most = min(_PLACES, int(_figures(labels, scored, 1).sizes.max()))
    places = range(1, most + 1)
    values = [_figures(labels, scored, at).value(Metric.NDCG) for at in places]
    axes.plot(list(places), values, color=color, marker="o", markersize=3, label=name)
    axes.set(xlabel="k: items from the top", ylabel="NDCG@k", ylim=(0, 1.02))


def _by_size(path: Path, labels: np.ndarray, scored: Scored) -> None:
    at = _at(scored)
    found = _figures(labels, scored, at)
    random = _figures(labels, scored._replace(scores=np.zeros_like(scored.scores)), at)
    sizes = found.sizes[found.has_relevant]
    figure, (axes,) = canvas(7, 4.6)
    if len(sizes):
        cuts = np.unique(np.quantile(sizes, np.arange(_SIZES) / _SIZES).astype(np.int64))
        group = np.searchsorted(cuts, sizes, side="right") - 1
        shown = [number for number in range(len(cuts)) if (group == number).sum() >= _LEAST]
        for figures, color, name in ((found, BLUE, "this model"), (random, ORANGE, "random order")):
            values = [figures.ndcg[found.has_relevant][group == number] for number in shown]
            error = [1.96 * each.std(ddof=1) / np.sqrt(len(each)) for each in values]
            means = [each.mean() for each in values]
            axes.errorbar(range(len(shown)), means, yerr=error, fmt="o", color=color, capsize=3, label=name)
        named = [(int(sizes[group == number].min()), int(sizes[group == number].max())) for number in shown]
        texts = [str(low) if low == high else f"{low} to {high}" for low, high in named]
        axes.set_xticks(range(len(shown)), texts)
        legend_below(axes)
    axes.set(xlabel="items of the list", ylabel=f"NDCG@{at}, 95 % interval", title="NDCG by the size of the list")
    axes.set(ylim=(0, 1.05))
    figure.savefig(path)
