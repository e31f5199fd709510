"""Promotion gates: what a challenger must show on its holdout before it may become the champion."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from data.errors import DataError
from data.features import Transform, as_floats, named_column
from data.judgement import Gates
from data.usecase import UseCase
from tune.bundle import Bundle
from tune.evaluate import Scored, differences, metrics
from tune.onnx_export import OnnxScorer

_FLOORS = (("min_auc", "auc"), ("min_pr_auc", "pr_auc"), ("min_f1", "f1"))


class Gate(NamedTuple):
    """One gate: what it asks, what was found, what is allowed, and whether that is good enough."""

    name: str
    value: str
    limit: str
    passed: bool


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
    found = differences(labels, mine, {name: theirs}, metric, gates.confidence)[name]
    return Gate(name, f"[{found.low:+.4f}, {found.high:+.4f}]", limit, found.high >= -gates.max_loss_to_champion)
