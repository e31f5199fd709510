"""Promotion gates: what a challenger must show on its holdout before it may become the champion."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from data.errors import DataError
from data.features import Transform, as_floats, named_column
from data.usecase import Gates, Metric, UseCase
from tune.bundle import Bundle
from tune.evaluate import metrics
from tune.onnx_export import OnnxScorer
from tune.ranking import Interval, Ranking, bootstrap

_FLOORS = (("min_auc", "auc"), ("min_pr_auc", "pr_auc"), ("min_f1", "f1"))


class Gate(NamedTuple):
    """One gate: what it asks, what was found, what is allowed, and whether that is good enough."""

    name: str
    value: str
    limit: str
    passed: bool


class Scored(NamedTuple):
    """A model's probabilities on the holdout, shape (n,), and its threshold."""

    probabilities: np.ndarray
    threshold: float


def check_gates(use_case: UseCase, holdout: pa.Table, challenger: Bundle, champion: Bundle | None) -> list[Gate]:
    """Score both models on the challenger's holdout, raw rows with the label, and judge.

    Raises:
        DataError: the holdout lacks a column of the challenger.
    """
    labels = as_floats(named_column(holdout, use_case.label), use_case.label).astype(np.uint8)
    mine = score(challenger, holdout)
    return [
        *_absolute(use_case.gates, metrics(labels, mine.probabilities, mine.threshold)),
        _against(champion, holdout, labels, mine, use_case),
    ]


def score(bundle: Bundle, table: pa.Table) -> Scored:
    """Score raw rows as serving does; raises DataError when a column is missing."""
    matrix = Transform(bundle.manifest.schema_).matrix(table)
    return Scored(OnnxScorer(bundle.onnx).probabilities(matrix), bundle.manifest.threshold)


def difference(labels: np.ndarray, mine: Scored, theirs: Scored, metric: Metric, confidence: float) -> Interval:
    """Paired bootstrap interval of the metric's difference, `mine` - `theirs`: both on the same resamples."""
    one, other = (Ranking(labels, scored.probabilities) for scored in (mine, theirs))

    def statistic(counts: np.ndarray) -> float:
        return _value(one, metric, mine.threshold, counts) - _value(other, metric, theirs.threshold, counts)

    return bootstrap(statistic, len(labels), confidence)


def _value(ranking: Ranking, metric: Metric, threshold: float, counts: np.ndarray) -> float:
    if metric is Metric.F1:
        return ranking.f1(threshold, counts)
    return ranking.auc(counts) if metric is Metric.AUC else ranking.pr_auc(counts)


def _absolute(gates: Gates, figures: dict[str, float]) -> list[Gate]:
    rows = []
    for gate, name in _FLOORS:
        limit = getattr(gates, gate)
        if limit is not None:
            rows.append(Gate(name, f"{figures[name]:.4f}", f">= {limit:g}", figures[name] >= limit))
    if gates.max_ece is not None:
        rows.append(Gate("ece", f"{figures['ece']:.4f}", f"<= {gates.max_ece:g}", figures["ece"] <= gates.max_ece))
    return rows


def _against(champion: Bundle | None, holdout: pa.Table, labels: np.ndarray, mine: Scored, use_case: UseCase) -> Gate:
    gates, metric = use_case.gates, use_case.search.metric
    name = f"{metric.value} - champion's"
    limit = f"upper end >= {-gates.max_loss_to_champion or 0:g}"
    if champion is None:
        return Gate(name, "no champion yet", limit, True)
    try:
        theirs = score(champion, holdout)
    except DataError as exc:
        return Gate(name, f"the champion cannot score this holdout: {exc}", limit, False)
    low, high = difference(labels, mine, theirs, metric, gates.confidence)
    return Gate(name, f"[{low:+.4f}, {high:+.4f}]", limit, high >= -gates.max_loss_to_champion)
