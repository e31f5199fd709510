"""Two runs or versions side by side: parameters, figures, and the difference on the rows that both were judged on."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from data.errors import ModelNotFound
from data.schema.use_case import Metric, UseCase
from data.sources.parquet import read_table
from data.transform.encoding import as_floats, named_column
from tune.metrics.cluster_bootstrap import entity_codes
from tune.metrics.figures import Difference, Scored, differences
from tune.promotion.gates import score
from tune.promotion.holdout_overlap import same_rows
from tune.registry.bundle import Bundle
from tune.registry.registry import BUNDLE_FOLDER, HOLDOUT_FOLDER, Registry

FIGURES = ("auc", "pr_auc", "f1", "precision", "recall", "brier", "ece", "log_loss", "cost")
"""Figures on the holdout, in the order in which they are shown."""

_RUN_ID = re.compile(r"[0-9a-f]{32}")


class ComparedModel(NamedTuple):
    """One side. `bundle` and `holdout` are None for a run that did not come to its end."""

    name: str
    run_id: str
    params: dict[str, str]
    metrics: dict[str, float]
    bundle: Bundle | None
    holdout: pa.Table | None


class SharedRows(NamedTuple):
    """What both models say of the rows on which both were judged."""

    labels: np.ndarray
    scored: tuple[Scored, Scored]
    differences: dict[str, Difference]
    """First minus second, by metric."""


class ModelComparison(NamedTuple):
    """Both sides, and what they share; without shared rows, `reason` says why."""

    one: ComparedModel
    other: ComparedModel
    shared: SharedRows | None
    reason: str


def compare(registry: Registry, use_case: UseCase, one: str, other: str) -> ModelComparison:
    """Compare two of: a version's number, an alias, the id of a run.

    Raises:
        ModelNotFound: no such run, version or alias.
        RegistryUnavailable: MLflow does not answer.
    """
    first, second = (_contender(registry, use_case.name, each) for each in (one, other))
    models = [(each.bundle, each.holdout) for each in (first, second) if each.bundle and each.holdout is not None]
    reason = _why_not(first, second)
    return ModelComparison(first, second, None if reason else _shared(use_case, *models), reason)


def _contender(registry: Registry, model: str, wanted: str) -> ComparedModel:
    if _RUN_ID.fullmatch(wanted):
        name, run_id = f"run {wanted[:8]}", wanted
    else:
        version = registry.version(model, wanted)
        name, run_id = f"version {version.version}", version.run_id
    params, metrics = registry.run(run_id)
    with tempfile.TemporaryDirectory() as scratch:
        try:
            bundle = Bundle.load(registry.fetch(run_id, BUNDLE_FOLDER, Path(scratch)))
            holdout = read_table(registry.fetch(run_id, HOLDOUT_FOLDER, Path(scratch)))
        except ModelNotFound:
            bundle = holdout = None
    return ComparedModel(name, run_id, params, metrics, bundle, holdout)


def _why_not(one: ComparedModel, other: ComparedModel) -> str:
    """Why no difference can be claimed; empty when both were judged on the same rows, from which neither learned."""
    if one.holdout is None or other.holdout is None:
        return f"{(one if one.holdout is None else other).name} came to no model"
    if same_rows(one.holdout, other.holdout):
        return ""
    if one.params.get("data_fingerprint") == other.params.get("data_fingerprint"):
        return "they were split differently, so one may have learned from the other's holdout"
    columns = _only(one, other) + _only(other, one)
    if not columns:
        return "they learned from different data, so their figures are of different rows"
    return (
        f"their figures are of different rows, by the columns that both read ({'; '.join(columns)}): "
        "another table or another split"
    )


def _only(one: ComparedModel, other: ComparedModel) -> list[str]:
    """In words, the columns that one side read and the other did not."""
    mine, theirs = (each.holdout.column_names if each.holdout is not None else [] for each in (one, other))
    columns = [name for name in mine if name not in theirs]
    return [f"only {one.name} read {', '.join(columns)}"] if columns else []


def _shared(use_case: UseCase, one: tuple[Bundle, pa.Table], other: tuple[Bundle, pa.Table]) -> SharedRows:
    """Each model scores its own copy of the rows, which has the columns of its features."""
    holdout = one[1]
    labels = as_floats(named_column(holdout, use_case.label), use_case.label).astype(np.uint8)
    mine, theirs = score(*one), score(*other)
    entities = entity_codes(holdout, use_case)
    found = {
        metric.value: differences(labels, mine, {"other": theirs}, metric, entities=entities)["other"]
        for metric in Metric
    }
    return SharedRows(labels, (mine, theirs), found)


def parameter_rows(found: ModelComparison) -> list[tuple[str, str, str]]:
    """Name and both values of every parameter, those that differ first."""
    one, other = found.one.params, found.other.params
    rows = [(name, one.get(name, ""), other.get(name, "")) for name in {**one, **other}]
    return sorted(rows, key=lambda row: row[1] == row[2])


def figure_rows(found: ModelComparison) -> list[tuple[str, str, str, str]]:
    """Name, both values with their intervals, and the paired difference of every figure on the holdout."""
    rows = []
    for name in FIGURES:
        cells = [_cell(each.metrics, name) for each in (found.one, found.other)]
        if any(cells):
            rows.append((name, *cells, _difference(found.shared, name)))
    return rows


def _cell(metrics: dict[str, float], name: str) -> str:
    if f"holdout_{name}" not in metrics:
        return ""
    ends = [metrics.get(f"holdout_{name}_{end}") for end in ("low", "high")]
    interval = f" ({ends[0]:.4f} to {ends[1]:.4f})" if None not in ends else ""
    return f"{metrics[f'holdout_{name}']:.4f}{interval}"


def _difference(shared: SharedRows | None, name: str) -> str:
    if shared is None or name not in shared.differences:
        return ""
    found = shared.differences[name]
    return f"{found.value:+.4f} ({found.low:+.4f} to {found.high:+.4f}), {found.verdict}"
