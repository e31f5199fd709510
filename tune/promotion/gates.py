"""Promotion gates: what a challenger must show before it may become the champion."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from data.errors import DataError
from data.schema.model_policy import FIGURE_GATES, Gates
from data.schema.use_case import UseCase
from data.transform.encoding import Transform, named_column
from data.transform.labels import label_array
from data.transform.list_codes import list_codes
from tune.evaluation.latency import row_latency_ms
from tune.evaluation.slices import slice_name, slice_rows, too_small
from tune.metrics.cluster_bootstrap import entity_codes
from tune.metrics.figures import Difference
from tune.promotion.holdout_overlap import unseen_rows
from tune.registry.bundle import BaselineDifference, Bundle, BundleManifest
from tune.skew.row_comparison import SkewProof
from tune.tasks.kinds import learning_task
from tune.tasks.learning_task import LearningTask, Scored
from tune.training.onnx_export import OnnxScorer

_NO_CHAMPION = "no champion yet"
_CHANCE_Z = 4.0
"""A model that knows nothing gets as far once in 30,000 times: two standard errors it would reach once in 40."""


class Gate(NamedTuple):
    """The result of one gate: its name, the value found, the limit, and whether it passed."""

    name: str
    value: str
    limit: str
    passed: bool | None
    """None where the gate cannot be judged, which refuses unless the operator accepts it."""

    @property
    def verdict(self) -> str:
        """The result as a word: passed, REFUSED or not judged."""
        return {True: "passed", False: "REFUSED", None: "not judged"}[self.passed]


def check_gates(
    use_case: UseCase,
    holdout: pa.Table,
    challenger: Bundle,
    champion: Bundle | None,
    proof: SkewProof | None = None,
    new_schema: bool = False,
    champions_holdout: pa.Table | None = None,
) -> list[Gate]:
    """Score both models on the challenger's holdout and judge every gate.

    The challenger is judged by its measured model, which has not learned from the holdout. So is the champion where
    it has the same holdout, and else by the model that serves, on the rows that came after all that it learned from.

    Args:
        use_case: declares the limits.
        holdout: the challenger's holdout: raw rows with the label.
        challenger: the model to promote.
        champion: the present champion, if there is one.
        proof: the skew proof of the challenger, if one was made.
        new_schema: accept another schema than the champion's, for which clients and store must be ready.
        champions_holdout: the champion's own holdout, from which it did not learn; None when it is gone.

    Raises:
        DataError: the holdout lacks a column of the challenger.
    """
    gates, learning = use_case.gates, learning_task(use_case)
    labels = label_array(named_column(holdout, use_case.label), use_case.task, use_case.label)
    mine = score_measured(challenger, holdout)._replace(lists=list_codes(holdout, use_case))
    return [
        *_absolute(use_case, learning.metrics(labels, mine)),
        *_against_baselines(gates, challenger.manifest, labels, mine, learning),
        *_against(champion, champions_holdout, holdout, labels, mine, use_case),
        _latency(challenger, holdout, gates),
        _schema(challenger, champion, new_schema),
        _skew(proof, gates),
    ]


def score_measured(bundle: Bundle, table: pa.Table) -> Scored:
    """Score raw rows by the model of which the figures are; raises DataError when a column is missing."""
    return _scored(bundle, bundle.measured, table)


def _scored(bundle: Bundle, onnx: bytes, table: pa.Table) -> Scored:
    matrix = Transform(bundle.manifest.schema_).matrix(table)
    return Scored(OnnxScorer(onnx).scores(matrix), bundle.manifest.output)


def _against_baselines(
    gates: Gates, manifest: BundleManifest, labels: np.ndarray, mine: Scored, learning: LearningTask[Any]
) -> list[Gate]:
    """Judge that the model is better than chance, and is not worse than the fair baselines of its training."""
    rows, metric = [], learning.metric.value
    if gates.beats_chance:
        found = learning.excess_of_chance(labels, mine)
        limit = f">= {_CHANCE_Z:g} standard errors"
        rows.append(Gate("above chance", f"{found:+.1f} standard errors", limit, found >= _CHANCE_Z))
    limit = _floor(gates.max_loss_to_baselines)
    return rows + [
        Gate(f"{metric} - {name}", _interval(each), limit, each.high >= -gates.max_loss_to_baselines)
        for name, each in manifest.baselines.items()
        if name != learning.constant
    ]


def _absolute(use_case: UseCase, figures: dict[str, float]) -> list[Gate]:
    """Judge the declared limits of single figures that there are for the kind of target."""
    rows = []
    for field in sorted(FIGURE_GATES & use_case.task.GATES, key=list(Gates.model_fields).index):
        limit, (end, _, name) = getattr(use_case.gates, field), field.partition("_")
        if limit is not None:
            passed = figures[name] >= limit if end == "min" else figures[name] <= limit
            rows.append(Gate(name, f"{figures[name]:.4f}", f"{'>=' if end == 'min' else '<='} {limit:g}", passed))
    return rows


def _against(
    champion: Bundle | None,
    own: pa.Table | None,
    holdout: pa.Table,
    labels: np.ndarray,
    mine: Scored,
    use_case: UseCase,
) -> list[Gate]:
    """Judge that the challenger is not worse than the champion, on the whole holdout and on each declared slice.

    A champion that learned from these rows looks better on them than it is: then nothing is judged.
    """
    gates, learning = use_case.gates, learning_task(use_case)
    name = f"{learning.metric.value} - champion's"
    limits = {name: _floor(gates.max_loss_to_champion)}
    if use_case.slices:
        limits["slices"] = _floor(gates.max_slice_loss)
    if champion is None:
        return [Gate(each, _NO_CHAMPION, limit, True) for each, limit in limits.items()]
    unseen = unseen_rows(champion.manifest, own, holdout, use_case)
    if isinstance(unseen, str):
        return [_not_comparable(each, unseen, limit) for each, limit in limits.items()]
    try:
        theirs = _scored(champion, champion.measured if unseen.measured else champion.onnx, holdout)
        theirs = theirs._replace(lists=mine.lists)
    except DataError as exc:
        why = f"the champion cannot score this holdout: {exc}"
        return [Gate(each, why, limit, False) for each, limit in limits.items()]
    rows = np.flatnonzero(unseen.rows)
    if champion.manifest.output.labels != mine.output.labels:
        why = "the champion answers another kind of target, or other labels"
        return [Gate(each, why, limit, False) for each, limit in limits.items()]
    if too_small(labels[rows], learning):
        why = f"only {len(rows):,} of these rows are later than those that it learned from; search on newer rows"
        return [_not_comparable(each, why, limit) for each, limit in limits.items()]
    holdout, labels = holdout.take(pa.array(rows)), labels[rows]
    mine, theirs = mine.take(rows), theirs.take(rows)
    entities = entity_codes(holdout, use_case)
    found = learning.differences(labels, mine, {name: theirs}, None, gates.confidence, entities)[name]
    whole = Gate(name, _interval(found), limits[name], found.high >= -gates.max_loss_to_champion)
    return [whole, *_slices(holdout, labels, mine, theirs, use_case)]


def _not_comparable(name: str, why: str, limit: str) -> Gate:
    return Gate(name, f"not comparable with the champion: {why}", limit, None)


def _slices(holdout: pa.Table, labels: np.ndarray, mine: Scored, theirs: Scored, use_case: UseCase) -> list[Gate]:
    """Return one gate for all slices, and one for each that fails.

    Quantiles and frequent words are taken from the holdout, because the train rows are not kept.
    """
    if not use_case.slices:
        return []
    gates, learning = use_case.gates, learning_task(use_case)
    rows, entities = np.arange(len(labels)), entity_codes(holdout, use_case)
    found: dict[str, Difference] = {}
    small = 0
    for column, value, places in slice_rows(holdout, rows, rows, use_case.slices, use_case.empty_values):
        if too_small(labels[places], learning):
            small += 1
            continue
        name, of = slice_name(column, value), None if entities is None else entities[places]
        own, other = mine.take(places), theirs.take(places)
        found |= learning.differences(labels[places], own, {name: other}, None, gates.confidence, of)
    limit = _floor(gates.max_slice_loss)
    bad = [name for name, each in found.items() if each.high < -gates.max_slice_loss]
    held = f"{len(found) - len(bad)} of {len(found)} hold" + (f", {small} too small to judge" if small else "")
    return [
        Gate("slices", held, limit, not bad),
        *(Gate(f"slice {name}", _interval(found[name]), limit, False) for name in bad),
    ]


def _latency(challenger: Bundle, holdout: pa.Table, gates: Gates) -> Gate:
    limit = gates.max_latency_ms
    matrix = Transform(challenger.manifest.schema_).matrix(holdout.slice(0, 1000))
    taken = row_latency_ms(challenger.onnx, matrix, limit)
    return Gate("latency of one row", f"p99 {taken:.3f} ms", f"<= {limit:g} ms", taken <= limit)


def _schema(challenger: Bundle, champion: Bundle | None, new_schema: bool) -> Gate:
    limit = "as the champion's"
    if champion is None:
        return Gate("schema", _NO_CHAMPION, limit, True)
    found = champion.manifest.differences(challenger.manifest)
    return Gate("schema", "; ".join(found) or "the same", "any" if new_schema else limit, new_schema or not found)


def _skew(proof: SkewProof | None, gates: Gates) -> Gate:
    wanted = max(gates.skew_rows or 0, proof.wanted if proof else 0)
    limit = f"0 of >= {wanted:,} rows differ" if wanted else "none"
    if proof is None:
        return Gate("skew proof", "not made", limit, gates.skew_rows is None)
    return Gate("skew proof", proof.summary, limit, proof.passed and proof.compared >= wanted)


def _floor(loss: float) -> str:
    return f"upper end >= {-loss or 0:g}"


def _interval(found: Difference | BaselineDifference) -> str:
    return f"[{found.low:+.4f}, {found.high:+.4f}]"
