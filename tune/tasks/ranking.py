"""Rankings: LambdaMART, which learns the order of a list's items, judged by the top of each list."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from sklearn.linear_model import Ridge

from data.schema.outputs.ranking_output import RankingOutput
from data.schema.search import Metric
from data.schema.task import Ranking
from data.transform.encoding import as_strings, named_column
from tune.metrics.list_figures import ListFigures
from tune.tasks.learning_task import FittedOutput, Judge, LearningTask, RoundFigures, Scored
from tune.tasks.link import Link, link_of
from tune.tasks.regression import score_edges

POPULARITY = "popularity"
_OBJECTIVE = "rank:ndcg"


@dataclass(frozen=True)
class RankingLearning(LearningTask[Ranking]):
    """As `LearningTask`; scores are margins, of shape (n, 1), and `Scored.lists` says which rows are one list.

    The constant baseline gives every item the same score: as ties count by the mean over their orders, that is a random
    order.
    """

    headline: tuple[str, ...] = ("ndcg", "map", "mrr")
    shown: tuple[str, ...] = ("ndcg", "map", "mrr")
    of_scores: tuple[str, ...] = ("ndcg", "map", "mrr")
    constant: str = "random order"
    linear: str = "ridge regression"

    @property
    def rounds(self) -> RoundFigures:
        """None of XGBoost's own: it orders ties by position, and its MAP takes no grades."""
        return RoundFigures({"objective": _OBJECTIVE, "disable_default_eval_metric": True}, None, None)

    def round_metric(self, labels: np.ndarray, margins: np.ndarray, lists: np.ndarray | None = None) -> float:
        """The metric of the margins."""
        return self._figures(labels, margins, lists).value(self.metric)

    @property
    def link(self) -> Link:
        """Identity."""
        return link_of(_OBJECTIVE)

    def fit(self, margins: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> FittedOutput:
        """As `LearningTask.fit`: nothing but the edges of histograms."""
        return FittedOutput(None, self.output_of(labels, self.scores_of(margins)))

    def output_of(self, labels: np.ndarray, scores: np.ndarray) -> RankingOutput:
        """The quantiles of the scores."""
        return RankingOutput(quantiles=score_edges(scores[:, 0]), at=self.task.at)

    def metrics(self, labels: np.ndarray, scored: Scored) -> dict[str, float]:
        """NDCG, MAP and MRR."""
        return self._of(labels, scored).all()

    def resampled(self, labels: np.ndarray, scored: Scored) -> Callable[[np.ndarray], Mapping[str, float]]:
        """All of them."""
        return self._of(labels, scored).all

    def judge(self, labels: np.ndarray, scored: Scored, metric: Metric) -> Judge:
        """The mean of the metric over the lists."""
        found = self._of(labels, scored)
        return lambda counts: found.value(metric, counts)

    def excess_of_chance(self, labels: np.ndarray, scored: Scored) -> float:
        """As `ListFigures.excess_of_chance`."""
        return self._of(labels, scored).excess_of_chance()

    def constant_scores(self, labels: np.ndarray, rows: int) -> Scored:
        """0 for every item."""
        scores = np.zeros((rows, 1), np.float32)
        return Scored(scores, self.output_of(labels, scores))

    def linear_model(self) -> Ridge:
        """Ridge regression on the grades."""
        return Ridge()

    def linear_scores(self, model: Any, x: np.ndarray) -> np.ndarray:
        """The predicted grade."""
        return model.predict(x).astype(np.float32).reshape(-1, 1)

    def looked_up(
        self, table: pa.Table, learned: np.ndarray, labels: np.ndarray, judged: np.ndarray
    ) -> dict[str, Scored]:
        """Popularity, where the use case names the item: the mean grade of the item among the rows learned from.

        It counts each item once more at the mean of all, which is also the score of an unknown one, so that an item
        that was seen once and bought does not lead.
        """
        if self.task.item is None:
            return {}
        words = as_strings(named_column(table, self.task.item), self.task.item).combine_chunks()
        items = words.dictionary_encode(null_encoding="encode").indices.to_numpy(zero_copy_only=False)
        prior, size = float(labels.mean(dtype=np.float64)), int(items.max()) + 1
        sums = np.bincount(items[learned], labels.astype(np.float64), size)
        means = (sums + prior) / (np.bincount(items[learned], minlength=size) + 1)
        scores = means[items[judged]].astype(np.float32).reshape(-1, 1)
        return {POPULARITY: Scored(scores, self.output_of(labels, scores))}

    def views(self, labels: np.ndarray) -> Iterator[np.ndarray]:
        """Whether an item is relevant."""
        yield (labels > 0).astype(np.uint8)

    def observed(self, labels: np.ndarray, scored: Scored) -> tuple[float, float]:
        """The mean grade, and the mean score."""
        return float(labels.mean(dtype=np.float64)), float(scored.scores.mean(dtype=np.float64))

    def slice_extras(self, labels: np.ndarray, scored: Scored) -> dict[str, float]:
        """MAP and MRR; lists are cut down to the rows of the slice."""
        found = self.metrics(labels, scored)
        return {name: found[name] for name in ("map", "mrr")}

    def too_few(self, labels: np.ndarray) -> bool:
        """All the same."""
        return len(labels) < 2 or labels.min() == labels.max()

    def describe(self, labels: np.ndarray) -> str:
        """The share of each grade."""
        grades, counts = np.unique(labels, return_counts=True)
        shares = [f"{grade:.0f} in {count / len(labels):.1%}" for grade, count in zip(grades, counts, strict=True)]
        return ", ".join(shares) or "none"

    def _of(self, labels: np.ndarray, scored: Scored) -> ListFigures:
        return self._figures(labels, scored.scores[:, 0], scored.lists)

    def _figures(self, labels: np.ndarray, scores: np.ndarray, lists: np.ndarray | None) -> ListFigures:
        assert lists is not None, "scores of a ranking have lists"
        return ListFigures(labels, scores, lists, self.task.at)
