"""Comparison of two runs or versions: parameters, figures, and the paired difference on their common holdout."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from data.errors import ModelNotFound
from data.schema.use_case import UseCase
from data.sources.parquet import read_table
from data.transform.encoding import named_column
from data.transform.labels import label_array
from data.transform.list_codes import list_codes
from tune.metrics.cluster_bootstrap import entity_codes
from tune.metrics.figures import Difference
from tune.promotion.gates import score_measured
from tune.promotion.holdout_overlap import same_rows
from tune.registry.bundle import Bundle
from tune.registry.registry import BUNDLE_FOLDER, HOLDOUT_FOLDER, Registry
from tune.tasks.kinds import learning_task
from tune.tasks.learning_task import Scored

_RUN_ID = re.compile(r"[0-9a-f]{32}")


class ComparedModel(NamedTuple):
    """One side of a comparison. `bundle` and `holdout` are None for a run that registered no model."""

    name: str
    run_id: str
    params: dict[str, str]
    metrics: dict[str, float]
    bundle: Bundle | None
    holdout: pa.Table | None


class SharedRows(NamedTuple):
    """Scores of both models on the holdout rows that they share, with labels of shape (n,)."""

    labels: np.ndarray
    scored: tuple[Scored, Scored]
    differences: dict[str, Difference]
    """First minus second, by metric."""


class ModelComparison(NamedTuple):
    """Both sides and their shared rows; `reason` says why there are none."""

    one: ComparedModel
    other: ComparedModel
    shared: SharedRows | None
    reason: str


def compare(registry: Registry, use_case: UseCase, one: str, other: str) -> ModelComparison:
    """Compare two models, each given as a version's number, an alias or the id of an MLflow run.

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
    """Return why the models cannot be compared; empty when both have the same holdout, from which neither learned."""
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
    """Return a text on the columns that `one` read and `other` did not, if there are any."""
    mine, theirs = (each.holdout.column_names if each.holdout is not None else [] for each in (one, other))
    columns = [name for name in mine if name not in theirs]
    return [f"only {one.name} read {', '.join(columns)}"] if columns else []


def _shared(use_case: UseCase, one: tuple[Bundle, pa.Table], other: tuple[Bundle, pa.Table]) -> SharedRows:
    """Score the shared rows with both models, each on its own copy, which has the columns of its features."""
    holdout = one[1]
    learning = learning_task(use_case)
    labels = label_array(named_column(holdout, use_case.label), use_case.task, use_case.label)
    lists = list_codes(holdout, use_case)
    mine, theirs = (score_measured(*each)._replace(lists=lists) for each in (one, other))
    entities = entity_codes(holdout, use_case)
    found = {
        metric.value: learning.differences(labels, mine, {"other": theirs}, metric, entities=entities)["other"]
        for metric in use_case.task.metrics
    }
    return SharedRows(labels, (mine, theirs), found)


def parameter_rows(found: ModelComparison) -> list[tuple[str, str, str]]:
    """Return (name, first value, second value) of every parameter, those that differ first."""
    one, other = found.one.params, found.other.params
    rows = [(name, one.get(name, ""), other.get(name, "")) for name in {**one, **other}]
    return sorted(rows, key=lambda row: row[1] == row[2])


def figure_rows(found: ModelComparison) -> list[tuple[str, str, str, str]]:
    """Return (name, first value, second value, paired difference) of every holdout figure, with intervals."""
    rows = []
    for name in _figures(found):
        cells = [_cell(each.metrics, name) for each in (found.one, found.other)]
        if any(cells):
            rows.append((name, *cells, _difference(found.shared, name)))
    return rows


def _figures(found: ModelComparison) -> list[str]:
    """Names of the figures on the holdout that either has, as training logs them."""
    logged = [name for each in (found.one, found.other) for name in each.metrics]
    names = [name.removeprefix("holdout_") for name in logged if name.startswith("holdout_")]
    return [name for name in dict.fromkeys(names) if not name.endswith(("_low", "_high"))]


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
