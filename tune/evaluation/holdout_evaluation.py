"""The holdout evaluation: a model's figures on the holdout and out of fold, against the baselines, and by slice."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from data.schema.use_case import UseCase
from data.transform.encoding import Transform
from tune.dataset.encoded_examples import PreparedDataset
from tune.dataset.training_table import TrainingTable
from tune.evaluation.baselines import baselines
from tune.evaluation.leakage import LeakageAlarm
from tune.evaluation.slices import SliceFigures, slice_figures
from tune.metrics.cluster_bootstrap import entity_codes
from tune.metrics.figures import Difference, Evaluation
from tune.tasks.kinds import learning_task
from tune.tasks.learning_task import LearningTask
from tune.training.final_model import FinalModel
from tune.training.onnx_export import OnnxScorer


class HoldoutEvaluation(NamedTuple):
    """The figures of a model; those by name are as `LearningTask.metrics` returns them."""

    holdout: Evaluation
    out_of_fold: dict[str, float]
    """Out of fold, by which trial, rounds, calibration and threshold or interval were chosen: optimistic."""
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
    learning, held = learning_task(use_case), prepared.holdout
    mine = model.scored(model.holdout)
    others = baselines(prepared, learning, nthread=1)
    parts, seen = prepared.parts, prepared.development.y
    for name, other in learning.looked_up(source.table, parts.development, seen, parts.holdout).items():
        others[name] = other._replace(lists=held.lists)
    entities = entity_codes(source.table, use_case, prepared.parts.holdout)
    return HoldoutEvaluation(
        holdout=learning.evaluate(held.y, mine, entities=entities),
        out_of_fold=learning.metrics(model.judged, model.scored_out_of_fold),
        uncalibrated=_of_scores(learning, held.y, model, model.uncalibrated) if model.calibrator else None,
        baselines={name: learning.metrics(held.y, other) for name, other in others.items()},
        differences=learning.differences(held.y, mine, others, entities=entities),
        slices=slice_figures(
            source.table,
            prepared.parts.development,
            prepared.parts.holdout,
            held.y,
            mine,
            use_case.slices,
            learning,
            entities,
            use_case.empty_values,
        ),
        alarms=alarms,
        own_values=_of_own_values(learning, source, prepared, model),
    )


def _of_own_values(
    learning: LearningTask[Any], source: TrainingTable, prepared: PreparedDataset, model: FinalModel
) -> dict[str, float] | None:
    if source.own is None:
        return None
    matrix = Transform(prepared.schema).matrix(source.own.take(prepared.parts.holdout))
    return _of_scores(learning, prepared.holdout.y, model, OnnxScorer(model.measured).scores(matrix))


def _of_scores(
    learning: LearningTask[Any], labels: np.ndarray, model: FinalModel, scores: np.ndarray
) -> dict[str, float]:
    """The figures that depend on scores alone: the model's output is fitted to its own."""
    figures = learning.metrics(labels, model.scored(scores))
    return {name: figures[name] for name in learning.of_scores}
