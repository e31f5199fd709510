"""The holdout evaluation: a model's figures on the holdout and out of fold, against the baselines, and by slice."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from data.schema.use_case import UseCase
from data.transform.encoding import Transform
from tune.dataset.encoded_examples import EncodedExamples, PreparedDataset
from tune.dataset.training_table import TrainingTable
from tune.evaluation.baselines import baselines
from tune.evaluation.leakage import LeakageAlarm
from tune.evaluation.slices import SliceFigures, slice_figures
from tune.metrics.cluster_bootstrap import entity_codes
from tune.metrics.figures import Difference, Evaluation, Scored, differences, evaluate, metrics
from tune.training.final_model import FinalModel
from tune.training.onnx_export import OnnxScorer

_OF_PROBABILITIES = ("auc", "pr_auc", "log_loss", "brier", "ece")
"""Figures that need no threshold: the model's threshold is one for calibrated probabilities."""


class HoldoutEvaluation(NamedTuple):
    """The figures of a model; those by name are as `tune.metrics.figures.metrics` returns them."""

    holdout: Evaluation
    out_of_fold: dict[str, float]
    """Out of fold, by which trial, rounds, threshold and calibration were chosen: optimistic."""
    uncalibrated: dict[str, float] | None
    """On the holdout without calibration, those that need no threshold; None for a model without calibration."""
    baselines: dict[str, dict[str, float]]
    differences: dict[str, Difference]
    """The model's search metric on the holdout minus each baseline's."""
    slices: list[SliceFigures]
    alarms: list[LeakageAlarm]
    own_values: dict[str, float] | None = None
    """On the holdout with each row's own values of online features, those that need no threshold; None where the
    holdout has those, as nothing is stored by a schedule. It is what the model would be with a store that knows all."""

    @property
    def optimism(self) -> dict[str, float]:
        """Each figure out of fold minus the same on the holdout."""
        return {name: self.out_of_fold[name] - figure for name, figure in self.holdout.metrics.items()}


def judge(
    use_case: UseCase, source: TrainingTable, prepared: PreparedDataset, model: FinalModel, alarms: list[LeakageAlarm]
) -> HoldoutEvaluation:
    """Evaluate a model: the one place in training that looks at the holdout's labels.

    Raises:
        DataError: a slice's column is missing or holds no numbers to cut.
    """
    cost, metric = use_case.decision.cost, use_case.search.metric
    held, mine = prepared.holdout, Scored(model.holdout, model.threshold)
    others = baselines(prepared, use_case.decision, nthread=1)
    entities = entity_codes(source.table, use_case, prepared.parts.holdout)
    return HoldoutEvaluation(
        holdout=evaluate(held.y, *mine, cost=cost, entities=entities),
        out_of_fold=metrics(model.judged, model.out_of_fold, model.threshold, cost),
        uncalibrated=_uncalibrated(held, model) if model.calibrator else None,
        baselines={name: metrics(held.y, *other, cost) for name, other in others.items()},
        differences=differences(held.y, mine, others, metric, entities=entities),
        slices=slice_figures(
            source.table,
            prepared.parts.development,
            prepared.parts.holdout,
            held.y,
            mine,
            use_case.slices,
            metric,
            entities,
            use_case.empty_values,
        ),
        alarms=alarms,
        own_values=_of_own_values(source, prepared, model),
    )


def _of_own_values(source: TrainingTable, prepared: PreparedDataset, model: FinalModel) -> dict[str, float] | None:
    if source.own is None:
        return None
    matrix = Transform(prepared.schema).matrix(source.own.take(prepared.parts.holdout))
    return _without_threshold(prepared.holdout, OnnxScorer(model.measured).probabilities(matrix), model)


def _uncalibrated(held: EncodedExamples, model: FinalModel) -> dict[str, float]:
    return _without_threshold(held, model.uncalibrated, model)


def _without_threshold(held: EncodedExamples, probabilities: np.ndarray, model: FinalModel) -> dict[str, float]:
    figures = metrics(held.y, probabilities, model.threshold)
    return {name: figures[name] for name in _OF_PROBABILITIES}
