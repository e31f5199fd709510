"""Everything that is measured of a model: on the holdout, on validation, against the baselines, by slice."""

from __future__ import annotations

from typing import NamedTuple

from data.schema.use_case import UseCase
from tune.dataset.encoded_examples import EncodedExamples, PreparedDataset
from tune.dataset.training_table import TrainingTable
from tune.evaluation.baselines import baselines
from tune.evaluation.leakage import LeakageAlarm
from tune.evaluation.slices import SliceFigures, slice_figures
from tune.metrics.cluster_bootstrap import entity_codes
from tune.metrics.figures import Difference, Evaluation, Scored, differences, evaluate, metrics
from tune.training.final_model import FinalModel

_OF_PROBABILITIES = ("auc", "pr_auc", "log_loss", "brier", "ece")
"""Figures that no threshold takes part in: the model's is one of calibrated probabilities."""


class HoldoutEvaluation(NamedTuple):
    """Figures by name are those of `tune.metrics.figures.metrics`."""

    holdout: Evaluation
    validation: dict[str, float]
    """On the rows that chose trial, rounds, threshold and calibration: optimistic."""
    uncalibrated: dict[str, float] | None
    """On the holdout without the calibration, those that need no threshold; None when there is none."""
    baselines: dict[str, dict[str, float]]
    differences: dict[str, Difference]
    """By how much the model beats each baseline in the search's metric on the holdout."""
    slices: list[SliceFigures]
    alarms: list[LeakageAlarm]

    @property
    def optimism(self) -> dict[str, float]:
        """How much better validation looks than the holdout, figure by figure."""
        return {name: self.validation[name] - figure for name, figure in self.holdout.metrics.items()}


def judge(
    use_case: UseCase, source: TrainingTable, prepared: PreparedDataset, model: FinalModel, alarms: list[LeakageAlarm]
) -> HoldoutEvaluation:
    """Measure; the one place that looks at the holdout's labels.

    Raises:
        DataError: a slice's column is missing or holds no numbers to cut.
    """
    cost, metric = use_case.decision.cost, use_case.search.metric
    held, mine = prepared.holdout, Scored(model.holdout, model.threshold)
    others = baselines(prepared, use_case.decision, nthread=1)
    entities = entity_codes(source.table, use_case, prepared.parts.holdout)
    return HoldoutEvaluation(
        holdout=evaluate(held.y, *mine, cost=cost, entities=entities),
        validation=metrics(prepared.validation.y, model.validation, model.threshold, cost),
        uncalibrated=_uncalibrated(held, model) if model.calibrator else None,
        baselines={name: metrics(held.y, *other, cost) for name, other in others.items()},
        differences=differences(held.y, mine, others, metric, entities=entities),
        slices=slice_figures(
            source.table, prepared.parts.train, prepared.parts.holdout, held.y, mine, use_case.slices, metric, entities
        ),
        alarms=alarms,
    )


def _uncalibrated(held: EncodedExamples, model: FinalModel) -> dict[str, float]:
    found = metrics(held.y, model.uncalibrated, model.threshold)
    return {name: found[name] for name in _OF_PROBABILITIES}
